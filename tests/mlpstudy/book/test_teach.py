"""Notebooks for a class; that an instructor's run is tested in test_execute.py, where the runs are."""

import ast
import builtins
from types import SimpleNamespace

import nbformat
import pytest
from made_books import solutions
from small_runs import ROOT

from mlplib.errors import MlplibError
from mlpstudy.book import teach
from mlpstudy.book.execute import names
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.profiles import profile


def test_students_get_every_exercise_and_no_solution(tmp_path):
    written = teach.write(tmp_path / "class", profile="smoke")
    assert {path.parent.name for path in written} == set(teach.SETS) and len(written) >= 26
    for path in written:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        text = "\n".join(cell.source for cell in notebook.cells)
        exercises = text.count("### Exercise: ")
        assert (
            exercises >= 3 and "{exercise}" not in text and "{solution}" not in text and "{cite" not in text
        )
        assert 'profile = "smoke"' in text
        students = path.parent.name == "students"
        assert text.count(teach.YOUR_TURN.strip()) == (exercises if students else 0)
        assert text.count("**Solution**") == (0 if students else exercises)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_solutions_train_on_the_device_of_the_notebook(name):
    """By default an executor takes the GPU, also where the parameter ``device`` says otherwise."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    code = "\n".join(solutions(notebook))
    assert code.count("Executor(") == code.count("Executor(chapter.store, device=chapter.session.device)")


def defined(tree):
    """The names that some code defines, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                found.add(name)
            case ast.alias():
                found.add((node.asname or node.name).split(".")[0])
    return found


@pytest.mark.parametrize("name", names())
def test_solutions_need_the_cells_of_their_notebook_only(name):
    """A reader may do the second exercise without the first."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [ast.parse(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    known = set(dir(builtins)).union(*map(defined, cells))
    for code in solutions(notebook):
        tree = ast.parse(code)
        read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        assert read <= known | defined(tree), read - known - defined(tree)


def test_the_sum_of_the_shares_is_shown_once_for_each_network(capsys):
    """Many trainings of the chapter have the same network."""
    notebook = nbformat.read(ROOT / "notebooks" / "parameters-or-examples.ipynb", as_version=4)
    (code,) = (code for code in solutions(notebook) if "size.parameters" in code)
    specs = experiment("parameters-or-examples").runs(profile("laptop"), (0,))
    exec(code, {"chapter": SimpleNamespace(specs=specs)})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"B-6/Wi-{width}" for width in (32, 64, 128, 256)]


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "marks.txt").touch()
    with pytest.raises(MlplibError, match="is not empty: name a new folder"):
        teach.write(tmp_path)
    with pytest.raises(MlplibError, match="cannot be written"):
        teach.write(tmp_path / "marks.txt" / "class")
    assert [path.name for path in tmp_path.iterdir()] == ["marks.txt"]
