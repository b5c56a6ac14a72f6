"""The notebooks: their skeleton, what they show of given records, and the real thing in profile smoke."""

import dataclasses
import errno
import fcntl
import html
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from made_books import outputs, prose
from small_runs import ROOT, leave, record

from mlplib.errors import Interrupted, MlplibError
from mlplib.store import Record, RunStore, by_id, run_id
from mlpstudy import planning
from mlpstudy.book import check as checks
from mlpstudy.book import execute
from mlpstudy.book.chapter import open_chapter
from mlpstudy.book.page_scoreboard import _what_it_comes_to, open_scoreboard
from mlpstudy.book.parameters import Parameters, of_notebook
from mlpstudy.book.tables import run_anchor, run_hash
from mlpstudy.claims import INCONCLUSIVE, NOT_TESTED, NOT_THERE, VERDICTS, judge, not_tested, positive
from mlpstudy.evidence.merge import publish
from mlpstudy.evidence.verdicts import AS_JUDGED, VARIANTS, Entry
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.profiles import PROFILES
from mlpstudy.stats import COUNTING, Estimate

pytestmark = pytest.mark.usefixtures("few_draws")
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in (ROOT / "notebooks").glob("*.ipynb")}
SECTIONS = [
    "What we found",
    "What the paper says",
    "Command and cost",
    "The experiment",
    "Runs",
    "Results",
    "Verdict",
    "Where this differs from the paper",
    "Exercises",
    "Where the numbers come from",
]
OVERVIEWS = {
    "compute": [
        "How to read it",
        "Command and cost",
        "By chapter",
        "By kind of run",
        "What sharing saved",
        "Still to come",
        "What the energy assumes",
    ],
    "how-fast": [
        "How to read it",
        "Command and cost",
        "Where the time of a step goes",
        "The roofline",
        "The targets",
        "What was tried",
        "Does bf16 cost accuracy?",
        "Exercises",
        "Where the numbers come from",
    ],
    "scoreboard": [
        "How to read it",
        "Command and cost",
        "Claims",
        "How robust the verdicts are",
        "What the seeds can show",
        "Status",
    ],
}
"""The notebooks about no single experiment, with their sections."""
TEACHING = (*EXPERIMENTS, "how-fast")
"""Those with exercises."""


def code_cells(name):
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


# --------------------------------------------------------------------------- the skeleton


def test_every_experiment_has_its_notebook_and_there_are_three_others():
    assert sorted(NOTEBOOKS) == sorted([*EXPERIMENTS, *OVERVIEWS])
    assert execute.names() == [*EXPERIMENTS, *OVERVIEWS]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs_for_any_python3(name):
    for cell in code_cells(name):
        assert cell.outputs == [] and cell.execution_count is None
    assert NOTEBOOKS[name].metadata.kernelspec.name == "python3"
    assert set(NOTEBOOKS[name].metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_the_sections_of_the_skeleton_in_order(name):
    text = prose(NOTEBOOKS[name])
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == OVERVIEWS.get(name, SECTIONS)
    title = re.findall(r"^# (.+)$", text, flags=re.MULTILINE)
    assert title == [name.replace("-", " ").capitalize() if name in OVERVIEWS else experiment(name).TITLE]
    assert "**After this chapter you can**" in text and "{cite}`bachmann2023scaling`" in text


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_parameters_are_the_first_code_and_offer_all_there_are(name):
    cells = code_cells(name)
    assert [c.metadata.get("tags") for c in cells].index(["parameters"]) == 0
    offered = of_notebook(name)
    values = {}
    exec(cells[0].source, {}, values)
    assert list(values) == list(offered.model_fields) and values == offered().model_dump()
    assert all(f"{key}={key}," in cells[1].source for key in offered.model_fields)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_long_plumbing_is_folded_and_no_helper_is_defined_in_a_notebook(name):
    for cell in code_cells(name):
        assert not re.search(r"^(def|class) ", cell.source, flags=re.MULTILINE)
        if "open_" in cell.source or "chapter.show" in cell.source:
            assert cell.metadata.tags == ["hide-input"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_result_is_typed_into_prose(name):
    """Digits in prose belong to names only (Table 1, B-6/Wi-256, CIFAR-10); numbers come from code."""
    text = re.sub(r"^(~~~|\$\$).*?^\1", " ", prose(NOTEBOOKS[name]), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\{cite\}`[^`]*`|`[^`]*`|\$[^$]*\$|^:label:.*$|```\{.*$", " ", text, flags=re.MULTILINE)
    names = (
        r"(Table|Fig|Section|Appendix) ([A-D]\.)?\d+(\.\d+)?",
        r"[BS]-\w+/Wi-\w+",
        r"CIFAR-100?",
        r"ImageNet-\d+k",
        r"bf16",
        r"ResNet-?\d+",
        r"(ViT|Mixer)-B/\d+",
        r"\d+ %",  # levels of confidence
        r"https://\S+",
    )
    assert re.findall(r"\S*\d\S*", re.sub("|".join(names), " ", text)) == []


@pytest.mark.parametrize("name", TEACHING)
def test_every_exercise_has_a_folded_solution(name):
    text = prose(NOTEBOOKS[name])
    exercises = re.findall(r"^```\{exercise\} .+\n:label: (\S+)$", text, flags=re.MULTILINE)
    answered = re.findall(r"^```\{solution\} (\S+)\n:label: \S+\n:class: dropdown$", text, flags=re.MULTILINE)
    assert 2 <= len(exercises) <= 4
    assert exercises == answered


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_chapter_shows_all_its_figures_and_its_verdicts(name):
    calls = "\n".join(cell.source for cell in code_cells(name))
    for figure in experiment(name).FIGURES:
        assert f'chapter.figure("{figure}")' in calls
    for call in ("banner()", "definition()", "run()", "table(", "verdicts()", "settings()", "provenance()"):
        assert f"chapter.{call}" in calls


# --------------------------------------------------------------------------- what a chapter shows


def made_by_hand(name, profile, seeds, **metrics) -> list[Record]:
    """Records of an experiment that nobody trained, with complete environments."""
    environment = {"device": f"device of {profile}", "precision": "fp32", "torch": "2.99", "commit": "c" * 40}
    return [
        dataclasses.replace(record(spec, **metrics), environment=environment)
        for spec in experiment(name).runs(PROFILES[profile], seeds)
    ]


def filled(folder: Path, records) -> RunStore:
    """A store with these records, those of the runs they read from, and the filters that looks leave."""
    store, given = RunStore(folder), {each.id: each for each in records}
    behind = planning.with_upstream(each.spec for each in records)
    sources = [
        dataclasses.replace(record(spec), environment=records[0].environment)
        for id, spec in behind.items()
        if id not in given
    ]
    leave(store, (*sources, *given.values()))
    return store


def opened(name, tmp_path, **given):
    """A chapter on the runs and results below a folder."""
    (tmp_path / "results").mkdir(exist_ok=True)
    folders = {"runs_dir": str(tmp_path / "runs"), "results_dir": str(tmp_path / "results")}
    return open_chapter(name, **folders, device="cpu", **given)


def shown(chapter) -> dict[str, str]:
    """Everything that a chapter shows after its runs."""
    parts = {call: str(getattr(chapter, call)()) for call in ("table", "verdicts", "settings", "provenance")}
    return parts | {name: str(chapter.figure(name)) for name in chapter.experiment.FIGURES}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_chapter_before_anything_is_published(name, tmp_path, capsys):
    filled(tmp_path / "runs", made_by_hand(name, "laptop", (0,)))
    chapter = opened(name, tmp_path)
    assert len(chapter.run()) == len(by_id(chapter.specs))
    assert "0 done now" in capsys.readouterr().out
    parts = shown(chapter)
    assert "not yet published" in parts["table"] and "not yet published" in parts["verdicts"]
    assert (
        "<b>This execution (laptop, device of laptop).</b>" in parts[next(iter(chapter.experiment.FIGURES))]
    )
    assert "n&nbsp;=&nbsp;1" in parts["table"]
    cells = re.findall(r"<td>.*?</td>", parts["table"], flags=re.DOTALL)
    assert cells and not [cell for cell in cells if "[" in cell and "interval from" not in cell]
    assert "device of laptop" in parts["provenance"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_chapter_sets_the_study_beside_this_execution(name, tmp_path):
    gpu = filled(tmp_path / "gpu", made_by_hand(name, "gpu", (0, 1, 2)))
    publish(name, "gpu", (0, 1, 2), gpu, tmp_path / "results")
    filled(tmp_path / "runs", made_by_hand(name, "laptop", (0, 1)))
    chapter = opened(name, tmp_path, seeds="0,1")
    chapter.run()
    parts = shown(chapter)
    assert "not yet published" not in "".join(parts.values())
    assert "gpu, device of gpu" in parts["table"] and "laptop, device of laptop" in parts["table"]
    assert "n&nbsp;=&nbsp;3" in parts["table"] and "n&nbsp;=&nbsp;2" in parts["table"]
    for figure in chapter.experiment.FIGURES:
        labels = re.findall(r"<label .*?>(.*?)</label>", parts[figure])
        assert labels == ["This study (gpu, device of gpu)", "This execution (laptop, device of laptop)"]
        assert parts[figure].count("<svg ") == parts[figure].count(" aria-label=") == 2
        assert parts[figure].count("<figcaption>") == 1
    for run in (*chapter.records, *chapter.studies[0].records, *chapter.studies[0].upstream):
        assert f"{run_hash(run.id)}</code>" in parts["provenance"]


@pytest.mark.parametrize("name", ["from-scratch", "filters", "scaling-laws"])
def test_a_chapter_shows_every_profile_down_to_the_first_complete_one(name, tmp_path):
    """The best profile has one run only: it is shown, and beside it what another one has whole."""
    for profile in ("gpu", "laptop"):
        store = filled(tmp_path / profile, made_by_hand(name, profile, (0, 1)))
        publish(name, profile, (0, 1), store, tmp_path / "results")
    last = made_by_hand(name, "gpu", (0, 1))[-1].id
    path = tmp_path / "results" / "gpu" / "runs.jsonl"
    path.write_text(next(line for line in path.read_text().splitlines() if f'"id": "{last}"' in line) + "\n")
    filled(tmp_path / "runs", made_by_hand(name, "laptop", (0,)))
    chapter = opened(name, tmp_path)
    chapter.run()
    assert [study.profile.name for study in chapter.studies] == ["gpu", "laptop"]
    parts = shown(chapter)
    for call in ("table", "verdicts", "settings"):
        headings = re.findall(r'this study<span class="mlp-small">(.*?)</span>', parts[call])
        assert headings[:2] == ["gpu, device of gpu", "laptop, device of laptop"], call
    for figure in chapter.experiment.FIGURES:
        labels = re.findall(r"<input [^>]*?( checked)?><label .*?>(.*?)</label>", parts[figure])
        assert [label for _, label in labels[:2]] == [
            "This study (gpu, device of gpu)",
            "This study (laptop, device of laptop)",
        ]
        assert labels[-1][1].startswith("This exec") and [bool(mark) for mark, _ in labels].index(True) == 1
    for study in chapter.studies:
        for run in (*study.records, *study.upstream):
            assert f'id="{run_anchor(f"this study {study.profile.name}", run.id)}"' in parts["provenance"]
    csv = unquote(re.search(r"text/csv;charset=utf-8,([^\"]+)", parts["table"])[1])
    assert {"study_gpu_mean", "study_laptop_mean", "execution_mean"} <= set(csv.splitlines()[0].split(","))


def test_the_same_runs_are_drawn_once(tmp_path):
    store = filled(tmp_path / "runs", made_by_hand("from-scratch", "laptop", (0,)))
    publish("from-scratch", "laptop", (0,), store, tmp_path / "results")
    chapter = opened("from-scratch", tmp_path)
    chapter.run()
    text = str(chapter.figure("accuracy-over-epochs"))
    assert text.count("<svg ") == 1 and "This study and this execution" in text


def test_table_1_shows_the_papers_values_their_footnotes_and_rows_that_nobody_ran(tmp_path):
    filled(tmp_path / "runs", made_by_hand("from-scratch", "laptop", (0, 1)))
    chapter = opened("from-scratch", tmp_path, seeds=[0, 1])
    chapter.run()
    text = str(chapter.table("Table 1"))
    rows = re.findall(r'<tr>\s*<th scope="row">(.*?)</th>\s*<td>(.*?)</td>(.*?)</tr>', text, flags=re.DOTALL)
    found = {name: (paper, rest) for name, paper, rest in rows}
    assert found["S-MLP @100"][0] == '<span class="mlp-number">54.2 %</span>'
    assert found["B-MLP @100"][0].endswith("</sup>") and "† unchecked transcription" in text
    convnet = found["ResNet18 + DA"]
    assert convnet[0] == '<span class="mlp-number">93.2 %</span>' and "a stand-in: small CNN" in convnet[1]
    assert "B-6/Wi-256, 40 epochs" in found["B-MLP + DA @5000"][1]
    csv = unquote(re.search(r"text/csv;charset=utf-8,([^\"]+)", text)[1])
    assert len(csv.splitlines()) == 1 + len(rows)
    assert all(run_hash(run.id) in csv for run in chapter.records)
    chapter.records = [run for run in chapter.records if run.spec.model.family != "small-cnn"]
    row = re.search(
        r'<th scope="row">ResNet18 \+ DA</th>(.*?)</tr>', str(chapter.table("Table 1")), re.DOTALL
    )
    assert "93.2 %" in row[1] and row[1].count("–") == 2


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("lost", ["one", "all"])
def test_a_chapter_goes_on_without_diverged_runs(name, lost, tmp_path, capsys):
    records = made_by_hand(name, "laptop", (0,))
    broken = records[-1:] if lost == "one" else records
    gone = {run.id for run in broken}
    kept = [run for run in records if run.id not in gone]
    nothing = {"status": "diverged", "metrics": {}}
    lost_runs = [dataclasses.replace(r, **nothing, history={k: [] for k in r.history}) for r in broken]
    filled(tmp_path / "runs", [*kept, *lost_runs])
    chapter = opened(name, tmp_path)
    chapter.run()
    assert f"{len(gone)} run{'s' * (len(gone) > 1)} diverged" in capsys.readouterr().out
    parts = shown(chapter)
    assert all(f"{run.id}</code>" in parts["provenance"] for run in broken)
    if lost == "all":
        assert "reproduced<" not in parts["verdicts"]


def test_a_published_picture_that_is_missing_is_named_and_the_rest_is_shown(tmp_path):
    gpu = filled(tmp_path / "gpu", made_by_hand("filters", "gpu", (0,)))
    done = publish("filters", "gpu", (0,), gpu, tmp_path / "results")
    for file in done.path.parent.rglob("*.npy"):
        file.unlink()
    filled(tmp_path / "runs", made_by_hand("filters", "laptop", (0,)))
    chapter = opened("filters", tmp_path)
    chapter.run()
    text = str(chapter.figure("first-layer-weights"))
    assert text.count("<svg ") == 1 and "cannot read the filters" in text


def test_the_definition_is_the_code_that_runs(tmp_path):
    text = opened("filters", tmp_path).definition().data
    for function in ("def runs(", "def training_run(", "def checkpoints("):
        assert text.count(function) == 1


def scoreboard(tmp_path):
    """The scoreboard on the runs and results below a folder."""
    (tmp_path / "results").mkdir(exist_ok=True)
    return open_scoreboard(runs_dir=str(tmp_path / "runs"), results_dir=str(tmp_path / "results"))


def study_at(tmp_path, **seeds):
    """A results folder with from-scratch and filters, published at the named profiles."""
    for profile, chosen in seeds.items():
        made = [r for name in ("from-scratch", "filters") for r in made_by_hand(name, profile, chosen)]
        store = filled(tmp_path / profile, made)
        for name in ("from-scratch", "filters"):
            publish(name, profile, chosen, store, tmp_path / "results")


def test_the_scoreboard_has_a_column_for_each_profile_with_records(tmp_path):
    study_at(tmp_path, laptop=(0, 1), gpu=(0, 1, 2))
    board = scoreboard(tmp_path)
    claims = str(board.claims())
    heads = re.findall(r'<th scope="col">(.*?)</th>', claims)
    sides = ["this study, gpu", "this study, laptop", "this execution, laptop"]
    assert heads == ["claim", "the paper says", *sides]
    row = re.search(r"C02</th>(.*?)</tr>", claims, flags=re.DOTALL)[1]
    assert "(3 seeds)" in row and "(2 seeds)" in row and row.count("no records") == 1
    assert "gpu, device of gpu" in row and "laptop, device of laptop" in row
    missing = re.search(r"C18</th>(.*?)</tr>", claims, flags=re.DOTALL)[1]
    assert missing.count("no records") == 3
    chapters = {name: experiment(name) for name in EXPERIMENTS}
    for name, module in chapters.items():
        assert claims.count(f'href="{name}.html"') == len(module.CLAIMS)
        assert all(html.escape(claim.criterion) in claims for claim in module.CLAIMS)


def test_the_status_counts_what_runs_were_made_from(tmp_path):
    study_at(tmp_path, laptop=(0,))
    board = scoreboard(tmp_path)
    own = experiment("filters").runs(PROFILES["laptop"], (0,))
    total = len(planning.with_upstream(own))
    assert total > len(own) and f"{total} of {total}" in str(board.status())


def test_the_status_tells_how_many_runs_published_ones_are_a_part_of(tmp_path):
    study_at(tmp_path, gpu=(0, 1))
    path = tmp_path / "results" / "gpu" / "runs.jsonl"
    scratch = {run_id(s) for s in experiment("from-scratch").runs(PROFILES["gpu"], (0, 1))}
    filters = set(planning.with_upstream(experiment("filters").runs(PROFILES["gpu"], (0, 1))))
    lost = [f'"id": "{id}"' for id in sorted(scratch - filters)[:3]]
    lines = [line for line in path.read_text().splitlines() if not any(id in line for id in lost)]
    path.write_text("\n".join(lines) + "\n")
    board = scoreboard(tmp_path)
    assert f"{len(scratch) - 3} of {len(scratch)}" in board.status()
    assert f"{len(filters)} of {len(filters)}" in board.status()


def test_robustness_and_power_show_every_judged_claim(tmp_path):
    study_at(tmp_path, laptop=(0, 1, 2))
    board = scoreboard(tmp_path)
    text = str(board.robustness())
    data = unquote(re.search(r"text/csv;charset=utf-8,([^\"]+)", text)[1])
    frame = pd.read_csv(io.StringIO(data))
    assert set(frame["profile"]) == {"this study, laptop"} and set(frame["verdict"]) <= set(VERDICTS)
    claims = sum(len(experiment(name).CLAIMS) for name in EXPERIMENTS)
    assert len(frame) == claims * (len(VARIANTS) + 1) and "would be expected to look true by chance" in text
    assert "No effect here has a standard error" in str(board.power()), "seeds made by hand are all alike"
    (tmp_path / "none").mkdir()
    nothing = scoreboard(tmp_path / "none")
    assert "No records" in str(nothing.robustness()) and "No effect" in str(nothing.power())


def test_every_claim_that_was_tested_counts_and_so_does_each_of_its_parts():
    """One that small runs would contradict was tested, too: it may look otherwise in another column."""
    sure, wide = Estimate(-1.0, -1.2, -0.8, 3), Estimate(0.0, -1.0, 1.0, 3)
    counted = Estimate(9.0, 9.0, 9.0, 3, source=COUNTING)
    found = {
        "C14": dataclasses.replace(
            judge([positive(sure, "points")] * 2), verdict=NOT_TESTED, because=NOT_THERE
        ),
        "C17": judge([positive(wide, "points")] * 6),
        "C18": judge([positive(counted, "times"), positive(None, "times", why_not="no GPU")]),
        "C03": not_tested("too short"),
    }
    entries = {id: Entry(None, judgement, "") for id, judgement in found.items()}
    usual = {id: judgement.verdict for id, judgement in found.items()}
    text = _what_it_comes_to("laptop", {AS_JUDGED: usual, "99 %": usual | {"C14": INCONCLUSIVE}}, entries)
    assert text.startswith(
        "Laptop: of 3 claims measured, 2 keep their verdict in every column. Others: 99 %: C14."
    )
    assert "8 parts with an interval" in text and "true, 0.2 would be expected" in text


def test_the_scoreboard_names_what_was_not_run_and_trains_nothing(tmp_path):
    board = scoreboard(tmp_path)
    claims, status = str(board.claims()), str(board.status())
    assert claims.count("no records<") == 2 * sum(len(experiment(name).CLAIMS) for name in EXPERIMENTS)
    assert status.count("not run") == status.count("not yet published") == len(EXPERIMENTS)
    assert not (tmp_path / "runs").exists()
    store = filled(tmp_path / "runs", made_by_hand("from-scratch", "laptop", (0,)))
    claims, status = str(board.claims()), str(board.status())
    found = {
        name: [spec for spec in experiment(name).runs(PROFILES["laptop"], (0,)) if store.find(spec)]
        for name in EXPERIMENTS
    }
    asked = [name for name in EXPERIMENTS if found[name]]
    assert "from-scratch" in asked and "filters" not in asked
    # Of filters, the trained networks are there, but nobody looked at their filters.
    assert 'href="from-scratch.html"' in claims
    judged = sum(len(experiment(name).CLAIMS) for name in asked)
    assert claims.count("mlp-verdict") == judged
    assert claims.count("no records<") == 2 * sum(len(experiment(n).CLAIMS) for n in EXPERIMENTS) - judged
    every = len(made_by_hand("from-scratch", "laptop", (0,)))
    assert f"{every} of {every}" in status


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "name, given, why",
    [
        ("from-scrath", {}, "unknown notebook 'from-scrath': choose one of architectures"),
        ("filters", {"typo": 1}, "unknown parameter 'typo': choose from profile"),
        ("filters", {"profile": "tiny"}, "unknown profile 'tiny'"),
        ("filters", {"seeds": "-1"}, "seeds must be at least 0"),
    ],
)
def test_execute_refuses_before_a_kernel_starts(name, given, why, tmp_path):
    with pytest.raises(MlplibError, match=why):
        execute.execute(name, given, tmp_path / "out.ipynb")
    assert not list(tmp_path.iterdir())


def test_execute_refuses_a_kernel_of_another_python(tmp_path, monkeypatch):
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = ["/usr/bin/other-python", "-m", "ipykernel_launcher"]
    spec = {"argv": argv, "display_name": "x", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(MlplibError, match="runs /usr/bin/other-python, not this environment"):
        execute.execute("scoreboard", {}, tmp_path / "out.ipynb")


def test_files_that_readers_leave_among_the_notebooks_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    for name in ("Untitled.ipynb", "scoreboard.ipynb", "filters.ipynb", "filters-Copy1.ipynb"):
        (tmp_path / "notebooks" / name).write_text("{}")
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    assert execute.names() == ["filters", "scoreboard"]
    assert execute.unlisted() == ["Untitled.ipynb", "filters-Copy1.ipynb"]


# --------------------------------------------------------------------------- cells that end a notebook


@pytest.fixture
def run_cells(tmp_path, monkeypatch):
    """Execute a notebook "filters" made of these cells; the result goes to ``out.ipynb``."""

    def run(*sources, log=lambda line: None, **options):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in sources])
        nbformat.write(notebook, tmp_path / "notebooks" / "filters.ipynb")
        monkeypatch.setattr(execute, "ROOT", tmp_path)
        return execute.execute("filters", {}, tmp_path / "out.ipynb", log=log, **options)

    return run


@pytest.mark.parametrize(
    "cell, why",
    [
        (
            "x = b'1' * 300_000_000; import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            r"killed by SIGKILL, it had used up to (0\.[3-9]|[1-9]\d*\.\d)\d GB of memory: memory ran out",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)",
            r"killed by signal 35, it had used up to .* memory$",
        ),
        ("import os; os._exit(0)", "the kernel ended with status 0 before the cell was done"),
        ("import sys; sys.exit(0)", "SystemExit: the cell called sys.exit, so the cells after it were not"),
        ("raise SystemExit", "SystemExit: the cell called sys.exit"),
    ],
)
def test_a_notebook_is_finished_only_when_its_last_cell_ran(cell, why, run_cells, tmp_path, capfd):
    with pytest.raises(MlplibError, match=f"^notebook filters stopped at cell 2: .*{why}"):
        run_cells("1", cell, "'later'")
    assert "later'" not in str(outputs(tmp_path / "out.ipynb", "execute_result"))
    assert capfd.readouterr().err == ""
    (tmp_path / "_build" / "executed").mkdir(parents=True)
    os.replace(tmp_path / "out.ipynb", tmp_path / "_build" / "executed" / "filters.ipynb")
    (line,) = checks.failures(tmp_path)
    assert line.startswith("chapter filters failed: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_build", "notebooks"]


SLOW = """import time
try:
    print("slow", flush=True)
    time.sleep(60)
finally:
    open("checkpoint", "w").close()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("cell", [SLOW, SLOW.replace("finally", "except BaseException")])
def test_a_signal_interrupts_the_cell_and_ends_the_notebook(cell, number, run_cells, tmp_path):
    def interrupt(line):
        for _ in range(3):  # from the terminal, from make and from Snakemake
            os.kill(os.getpid(), number)

    start = time.monotonic()
    with pytest.raises(Interrupted, match=r"^stopped in notebook filters: start it again"):
        run_cells(cell, "open('later', 'w')", log=interrupt)
    assert time.monotonic() - start < 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "notebooks", "out.ipynb"]


def test_a_kernel_that_does_not_start_says_why(run_cells, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ipykernel'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MlplibError, match=r"^the Jupyter kernel did not start: .*ipykernel"):
        run_cells("1")


def test_a_full_disk_is_one_line(run_cells, tmp_path, monkeypatch):
    import papermill.engines

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(papermill.engines, "write_ipynb", full)
    with pytest.raises(MlplibError, match=r"out.ipynb cannot be written \(No space left on device\)"):
        run_cells("1")
    assert [path.name for path in tmp_path.iterdir()] == ["notebooks"]


def test_what_a_killed_process_left_goes_away(run_cells, tmp_path):
    (tmp_path / ".out.unfinished.ipynb").write_text("half")
    run_cells("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notebooks", "out.ipynb"]


def test_another_process_that_executes_to_the_same_place_is_waited_for(run_cells, tmp_path):
    """Its work is not written to after it moved it in place."""
    said = []
    with (tmp_path / ".out.unfinished.ipynb").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def end():
            os.replace(other.name, tmp_path / "finished.ipynb")
            other.close()

        timer = threading.Timer(0.5, end)
        timer.start()
        place = run_cells("1", log=said.append)
        timer.join()
    assert said == [f"waiting for another process that executes {place}"]
    assert (tmp_path / "finished.ipynb").read_text() == "" and outputs(place, "execute_result")


# --------------------------------------------------------------------------- where the notebook goes


def test_only_an_executed_notebook_is_replaced_unasked(run_cells, tmp_path):
    place = tmp_path / "out.ipynb"
    place.touch()
    run_cells("1")
    run_cells("2")
    assert outputs(place, "execute_result")[0].data["text/plain"] == "2"
    notebook = nbformat.read(place, as_version=4)
    for text in ("my notes", '{"metadata": []}', nbformat.writes(nbformat.v4.new_notebook())):
        place.write_text(text)
        with pytest.raises(MlplibError, match=r"out.ipynb is not an executed notebook: .*--overwrite"):
            run_cells("3")
        assert place.read_text() == text
    run_cells("2", overwrite=True)
    assert nbformat.read(place, as_version=4).metadata == notebook.metadata


@pytest.mark.parametrize(
    "place, why",
    [
        ("folder", "is a folder"),
        ("pipe", "is a device, a pipe or a socket"),
        ("link-to-pipe", "is a device, a pipe or a socket"),
        ("loop", "cannot be written"),
        ("file/out.ipynb", "cannot be written"),
        ("folder/" + "x" * 5000, "File name too long"),
        ("x" * 252 + ".ipynb", "File name too long"),
    ],
)
def test_a_place_that_is_no_file_is_refused_before_a_kernel_starts(place, why, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link-to-pipe").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr(execute, "_papermill", lambda *given: pytest.fail("started"))
    before = sorted(tmp_path.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(MlplibError, match=why):
            execute.execute("scoreboard", {}, tmp_path / place, overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == before


# --------------------------------------------------------------------------- the real thing


@pytest.mark.slow
def test_plain_papermill_with_an_unknown_parameter_stops_in_one_line(tmp_path):
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "from-scratch.ipynb"), "out.ipynb"]
    command += ["-p", "profile", "smoke", "-p", "epoch", "5e-5", "-p", "runs_dir", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    (error,) = outputs(tmp_path / "out.ipynb", "error")
    assert error.evalue == f"unknown parameter 'epoch': choose from {', '.join(Parameters.model_fields)}"
    assert error.traceback == [f"MlplibError: {error.evalue}"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_notebook_that_fails_is_kept_up_to_the_cell_that_failed(tmp_path):
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / "runs.jsonl").write_text("not a record\n")
    given = {"results_dir": str(tmp_path), "profile": "smoke"}
    with pytest.raises(
        MlplibError, match=r"^notebook from-scratch stopped at cell 3: laptop/runs.jsonl, line 1,"
    ):
        execute.execute("from-scratch", given, tmp_path / "out.ipynb")
    (error,) = outputs(tmp_path / "out.ipynb", "error")
    assert error.traceback == [f"MlplibError: {error.evalue}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["laptop", "out.ipynb"]


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_no_kernel_and_says_how_to_go_on(tmp_path):
    words = "notebook from-scratch --profile smoke --out out.ipynb".split()
    command = [sys.executable, "-m", "mlplib", *words]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MLPLIB_RUNS": "runs",
    }  # of here, not of the notebook
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if " of " in line:
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().strip().splitlines()
        assert process.wait(timeout=60) == 130
    assert (
        said[-1] == "stopped in notebook from-scratch: start it again and it goes on from its last checkpoint"
    )
    assert list((tmp_path / "runs").glob("*/checkpoint.pt"))
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)


def test_the_plan_of_a_chapter_names_runs_once(tmp_path):
    chapter = opened("filters", tmp_path, profile="smoke")
    plan = planning.Planner(chapter.store, chapter.session.device).plan(chapter.specs)
    assert f"{len(plan.runs)}, 0 of them done already; the rest will take about" in str(chapter.banner())
