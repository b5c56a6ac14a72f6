"""Which module imports which: one arrow between the packages, no circles, a readable core, a true map."""

import ast
import graphlib
import re

import pytest
from small_runs import PACKAGES, ROOT

MOST_FILES, MOST_LINES = 12, 2700
FLOOR = ("machine", "weights", "files", "limits", "progress", "stopping", "errors")
"""Modules of mlplib that import nothing above them."""


def sources() -> dict[str, ast.Module]:
    """Every module of both packages, by its full name."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if path.name == "__init__.py" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = sources()
PACKAGE_NAMES = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for p in PACKAGES
    for path in (ROOT / p).rglob("__init__.py")
}


def imported(name: str, node: ast.AST) -> dict[str, str]:
    """What an import statement of module ``name`` binds to modules of ours: local name to module."""
    if isinstance(node, ast.Import):
        return {a.asname or a.name: a.name for a in node.names if a.name in MODULES}
    if not isinstance(node, ast.ImportFrom):
        return {}
    base = node.module or ""
    if node.level:
        parts = name.split(".")
        above = parts[: len(parts) - node.level + (name in PACKAGE_NAMES)]
        base = ".".join([*above, *([node.module] if node.module else [])])
    found = {}
    for alias in node.names:
        module = f"{base}.{alias.name}"
        if module in MODULES:
            found[alias.asname or alias.name] = module
        elif base in MODULES:
            found[f"{base}:{alias.name}"] = base
    return found


def imports_of(name: str) -> set[str]:
    """The modules that ``name`` imports anywhere, in functions too."""
    nodes = ast.walk(MODULES[name])
    return {module for node in nodes for module in imported(name, node).values()} - {name}


def test_the_imports_are_seen():
    assert {"mlplib.step", "mlplib.data.batches"} <= imports_of("mlplib.training")
    assert "mlplib.errors" in imports_of("mlplib.data.batches")


def test_no_module_imports_itself_by_way_of_others():
    try:
        tuple(graphlib.TopologicalSorter({name: imports_of(name) for name in MODULES}).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_library_does_not_know_the_study():
    known = {name: imports_of(name) for name in MODULES if name.partition(".")[0] == "mlplib"}
    assert not [
        f"{name} imports {other}"
        for name, found in known.items()
        for other in found
        if other.startswith("mlpstudy")
    ]


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("mlplib.specs")])
def test_settings_import_nothing_but_errors(name):
    above = {other for other in imports_of(name) if not other.startswith("mlplib.specs")}
    assert above <= {"mlplib.errors"}


@pytest.mark.parametrize("name", FLOOR)
def test_the_ground_floor_imports_nothing_above(name):
    assert imports_of(f"mlplib.{name}") <= {f"mlplib.{other}" for other in FLOOR}


def test_nothing_uses_a_private_name_of_another_module():
    found = []
    for name, tree in MODULES.items():
        bound = {local: module for node in ast.walk(tree) for local, module in imported(name, node).items()}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and imported(name, node):
                found += [f"{name}: {a.name}" for a in node.names if a.name.startswith("_")]
            if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
                value = node.value
                if isinstance(value, ast.Name) and value.id in bound:
                    found.append(f"{name}: {value.id}.{node.attr}")
        # Of objects: a private attribute must be one that this module itself sets or defines.
        own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        own |= {
            n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
        }
        own |= {
            n.target.id
            for n in ast.walk(tree)
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        }
        theirs = {"_exit", *PRIVATE_ELSEWHERE}  # of os; it is public
        found += [
            f"{name}: .{n.attr}"
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute)
            and re.match("_[a-z]", n.attr)
            and n.attr not in own | theirs
            and not n.attr.startswith("_foreach")
        ]
    assert not found


PRIVATE_ELSEWHERE = {
    "_is_avx512_bf16_supported",
    "_is_amx_tile_supported",
    "_schema",
    "_cdata",
    "_python_dispatch",
    "_pytree",
    "_showtraceback",
}
"""Private names of torch and IPython that have no public counterpart."""


# --------------------------------------------------------------------------- the files to read


def reading_core(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\bmlplib/[\w/]+\.py\b", text)))


def test_a_training_can_be_read_in_a_dozen_files():
    core = reading_core(ast.get_docstring(MODULES["mlplib"]))
    assert core == reading_core((ROOT / "book" / "read-the-code.md").read_text(encoding="utf-8"))
    assert core[0] == "mlplib/models.py" and core[-1] == "mlplib/training.py"
    assert len(core) <= MOST_FILES
    assert sum(len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in core) <= MOST_LINES


# --------------------------------------------------------------------------- the map in CONTRIBUTING

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of CONTRIBUTING, without its head."""
    section = CONTRIBUTING.split(f"### {heading}\n")[1].split("\n#")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def rows_of_mlplib() -> dict[str, int]:
    """The row of the map in which each module or folder directly below mlplib is."""
    rows = enumerate(
        re.findall(r"`mlplib/([\w./]+)`", row[0]) for row in table("`mlplib`, from the bottom up")
    )
    return {name.removesuffix(".py").rstrip("/"): number for number, names in rows for name in names}


def test_the_map_has_every_module_of_mlplib():
    present = {path.stem for path in (ROOT / "mlplib").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(rows_of_mlplib()) == {name for name in present if not name.startswith("_")}


def test_modules_of_mlplib_import_only_from_their_row_and_those_above():
    rows, seen = rows_of_mlplib(), set()
    for name in MODULES:
        if not name.startswith("mlplib.") or (importer := name.split(".")[1]) not in rows:
            continue
        for other in imports_of(name) - {"mlplib"}:
            part = other.split(".")[1]
            assert rows[part] <= rows[importer], f"{name} imports {other}, which is further down in the map"
            seen.add((importer, part))
    assert {("executor", "training"), ("training", "step"), ("step", "optim")} <= seen


def test_the_map_has_every_part_of_mlpstudy():
    named = " ".join(row[0] for row in table("`mlpstudy`, and the rest"))
    parts = {path.name for path in (ROOT / "mlpstudy").iterdir() if not path.name.startswith(("_", "."))}
    assert {part for part in parts if f"`mlpstudy/{part}" not in named} == set()


@pytest.mark.parametrize("row", table("For example"), ids=lambda row: row[0])
def test_a_newcomer_finds_what_the_examples_name(row):
    _, path, name = (cell.strip("`") for cell in row)
    nodes = list(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    claims = {
        node.args[0].value
        for node in nodes
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "claim" and node.args
    }
    for part in name.split("."):
        assert part in defined | assigned | claims, f"{path} does not define {part}"
