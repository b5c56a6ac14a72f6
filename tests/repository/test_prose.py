"""The prose holds what it says: links, files, commands, variables, functions and error lines exist."""

import ast
import functools
import itertools
import json
import re
import shlex
import subprocess
from pathlib import Path
from pydoc import locate

import pytest
from small_runs import PACKAGES, ROOT
from typed import parse

from mlplib.memory import BYTES_PER_PARAMETER
from mlplib.specs import TrainSpec
from mlpstudy import cost
from mlpstudy.book import check as checks
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.planning import upstream_first
from mlpstudy.profiles import PROFILES

BOOK = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "book").glob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "findings/README.md", *BOOK]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES)


@functools.cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@functools.cache
def prose(page: str) -> str:
    """A page without its fenced blocks of code; directives stay."""
    return re.sub(r"^```\w+\n.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


@functools.cache
def tracked() -> tuple[str, ...]:
    """The files that git knows, and the new ones that it would not ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(name for name in dict.fromkeys(listed.split("\0")) if name and (ROOT / name).is_file())


def python_files() -> list[Path]:
    """The modules of both packages."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@functools.cache
def sources() -> str:
    """All code of the study: library, engine and set-up."""
    names = [
        "Makefile",
        "Snakefile",
        "bin/set-up",
        ".ci/run",
        "tests/conftest.py",
        "tests/mlpstudy/book/test_storm.py",
        "tests/mlpstudy/test_queue.py",
        "tests/helpers/queues.py",
    ]
    paths = [*python_files(), *(ROOT / name for name in names)]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def code_in(page: str) -> list[str]:
    """What stands in backticks, on one line each; roles such as {cite} and literal formulas are left out."""
    text = re.sub(r"\{[\w:]+\}`[^`]*`", "", prose(page))
    found = re.findall(r"(?<![`}\w])`([^`]+)`(?!`)", text)
    return [" ".join(code.split()) for code in found]


# --------------------------------------------------------------------------- links


def anchors(page: str) -> set[str]:
    """The labels of a page, and its headings as GitHub and MyST turn them into anchors."""
    text = prose(page)
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))


@EVERY_PAGE
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        if there.parent.name == "chapters":
            # Chapters are made by executing the notebooks of the same names.
            assert page.startswith("book/"), f"{page} links to {target}, which no clone has"
            there = ROOT / "notebooks" / there.name
        assert there.exists(), f"{page} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(there.relative_to(ROOT).as_posix()), f"{page} links to {target}"


def test_every_page_of_the_book_is_listed_and_every_chapter_linked_from_the_front_page():
    pages = checks.pages_in_toc(ROOT / "book")
    assert {f"book/{name}.md" for name in pages if not name.startswith("chapters/")} == set(BOOK)
    for name in pages[1:]:
        if name != "references":
            assert re.search(rf"\]\({name}\.(md|ipynb)\)", text_of("book/index.md")), f"no link to {name}"


def test_every_chapter_is_told_to_teachers_in_the_order_of_the_book():
    pages = [page for page in checks.pages_in_toc(ROOT / "book") if page.startswith("chapters/")]
    for page in ("book/index.md", "book/teach.md"):
        told = dict.fromkeys(re.findall(r"\]\((chapters/[\w-]+)\.ipynb\)", text_of(page)))
        told["chapters/scoreboard"] = told.pop("chapters/scoreboard")  # the front page begins with it
        assert list(told) == pages, page


def test_every_finding_is_listed_once():
    listed = re.findall(r"^\| `([\w-]+\.sh)` \|", text_of("findings/README.md"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "findings").glob("*.sh"))


def test_cited_works_are_listed():
    keys = set(re.findall(r"^@\w+\{([\w-]+),$", text_of("book/references.bib"), flags=re.MULTILINE))
    cited = {}
    for page in BOOK:
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text_of(page)):
            cited |= {key.strip(): page for key in group.split(",")}
    assert cited and {k: p for k, p in cited.items() if k not in keys} == {}
    assert keys - set(cited) == set(), "references.md tells what each of the works is used for"


def test_terms_are_in_the_glossary_once_and_in_order():
    (body,) = re.findall(
        r"^```\{glossary\}\n(.*?)^```$", text_of("book/glossary.md"), re.MULTILINE | re.DOTALL
    )
    _, *entries = re.split(r"^(\S.*)$", body, flags=re.MULTILINE)
    terms = [term.lower() for term in entries[::2]]
    assert terms == sorted(set(terms)) and len(terms) > 50
    for term, text in zip(terms, entries[1::2], strict=True):
        assert text.strip().endswith("."), f"{term} is not explained in a sentence"
    named = {}
    for page, text in written().items():
        for reference in re.findall(r"\{term\}`([^`]+)`", " ".join(text.split())):
            named[(re.search(r"<(.+)>$", reference) or [None, reference])[1].lower()] = page
    assert len(named) > 30 and {term: page for term, page in named.items() if term not in terms} == {}


def test_references_to_labels_lead_somewhere():
    labels = {label for page in BOOK for label in re.findall(r"^\(([\w-]+)\)=$", text_of(page), re.MULTILINE)}
    for page, text in written().items():
        for target in re.findall(r"\{ref\}`[^`]*?<?([\w-]+)>?`", text):
            assert target in labels, f"{page} refers to {target}"


# --------------------------------------------------------------------------- names in the text


@EVERY_PAGE
def test_files_exist(page):
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    made = tuple(f"{line.strip('/')}/" for line in ignored if line.endswith("/"))
    for code in code_in(page):
        name = code.split(",")[0].split()[0]
        plain = re.fullmatch(r"\.?[\w.-]+(/[\w.-]+)*/?", name)
        looks_like_a_file = "/" in name or re.search(r"\.(py|csv|yml|md|toml|cff)$", name)
        is_a_network = re.fullmatch(r"[BS]-\d+/Wi-\d+", name)
        if not plain or is_a_network or not looks_like_a_file or f"{name.rstrip('/')}/".startswith(made):
            continue
        official = re.match(r"(models|utils|data_utils)/|(train|finetune)\.py$", name)
        if page == "book/deviations.md" and official:
            continue
        assert (ROOT / name).exists(), f"{page} names {name}, which is not there"


@EVERY_PAGE
def test_variables_exist(page):
    for name in set(re.findall(r"\bMLPLIB_\w+", text_of(page))):
        assert re.search(rf'["\'{{$ ]{name}\b', sources()), f"nothing reads {name}"


def test_every_variable_is_told():
    read = set(re.findall(r'environ(?:\.get\(|\[)"(MLPLIB_\w+)"', sources()))
    told = text_of("book/re-run.md") + text_of("CONTRIBUTING.md")
    assert len(read) >= 5 and [name for name in read if name not in told] == []


@EVERY_PAGE
def test_functions_exist(page):
    inside = page == "book/deviations.md"  # which says that its names are inside the packages
    named = [f"mlplib.{code}" if inside and not code.startswith("mlp") else code for code in code_in(page)]
    named = [name for name in named if re.fullmatch(r"mlp(?:lib|study)(\.[A-Za-z_]+){1,4}(?<!\.py)", name)]
    named = [name for name in named if not inside or name.count(".") > 1]
    assert len(named) > 30 or not inside
    for name in named:
        of_study = name.replace("mlplib", "mlpstudy", 1) if inside else name
        assert locate(name) or locate(of_study), f"there is no {name}"


@EVERY_PAGE
def test_commands_in_the_text_exist(page):
    for code in code_in(page):
        if re.match(r"mlplib [a-z]", code):
            parse(shlex.split(code)[1:], whole=False)
        if found := re.match(r"make ([a-z]+)", code):
            assert re.search(rf"^{found[1]}:", text_of("Makefile"), flags=re.MULTILINE), f"there is no {code}"


def test_settings_in_the_deviations_exist():
    from mlplib import specs

    settings = set()
    for name in ("ModelSpec", "AugmentSpec", "OptimizerSpec", "TrainSpec", "DataSpec"):
        settings |= set(getattr(specs, name).__dataclass_fields__)
    named = re.findall(r"`(\w+)=", prose("book/deviations.md"))
    assert named and set(named) <= settings


def test_the_parameters_are_those_of_the_notebooks():
    from mlpstudy.book.parameters import Parameters

    section = text_of("book/re-run.md").split("A notebook has ")[1].split("For `mlplib notebook`")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == list(Parameters.model_fields)
    assert section.startswith({5: "five", 6: "six"}[len(Parameters.model_fields)])


def test_the_profiles_are_told_as_they_are():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text_of("book/re-run.md"), flags=re.MULTILINE))
    assert {name: rows[name] for name in PROFILES} == {name: p.about for name, p in PROFILES.items()}


def test_the_largest_network_and_its_memory_are_told_as_they_are():
    profiles = PROFILES.values()
    runs = (run for p in profiles for name in EXPERIMENTS for run in experiment(name).runs(p, p.seeds[:1]))
    weights = max(
        cost.model_size(run).parameters for run in upstream_first(runs) if isinstance(run, TrainSpec)
    )
    text = " ".join(text_of("book/cluster.md").split())
    assert f"of any profile has {weights / 1e6:.0f} million weights." in text
    assert f"in float32 take {BYTES_PER_PARAMETER * weights / 1e9:.1f} GB" in text


# --------------------------------------------------------------------------- error lines


@functools.cache
def messages_in_python() -> list[list[str]]:
    """Every string of the library as its fixed parts: ``f"no {x} in {y}"`` is ``["no ", " in ", ""]``."""
    found = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append([node.value])
            elif isinstance(node, ast.JoinedStr):
                parts = [""]
                for value in node.values:
                    if isinstance(value, ast.Constant):
                        parts[-1] += value.value
                    else:
                        parts.append("")
                found.append(parts)
    return found


@functools.cache
def messages_in_set_up() -> list[list[str]]:
    """The same for the lines that ``bin/set-up`` says, which it starts with its name."""
    said = re.findall(r'\b(?:say|fail) "(.*)"', text_of("bin/set-up"))
    return [re.split(VARIABLE, f"set-up: {line}") for line in said]


VARIABLE = r"\$\([^)]*\)|\$\{[^}]*\}|\$\w+"


def says(parts: list[str], quoted: str) -> bool:
    """Whether a message with these fixed parts can read as ``quoted``."""
    if sum(map(len, parts)) < 12:
        return False
    pattern = ".+".join(re.escape(part) for part in parts)
    return re.fullmatch(pattern, quoted) is not None


def quoted_lines() -> list[str]:
    """The terms of the definition list under the last heading of the page."""
    section = text_of("book/re-run.md").split("## When something goes wrong")[1]
    return re.findall(r"^`(.+)`\n: ", section, flags=re.MULTILINE)


@pytest.mark.parametrize("quoted", quoted_lines())
def test_quoted_error_lines_are_in_the_source(quoted):
    messages = messages_in_set_up() if quoted.startswith("set-up: ") else messages_in_python()
    assert any(says(parts, quoted) for parts in messages), f"nothing says: {quoted}"


def test_error_lines_are_quoted_and_one_that_nobody_says_would_be_found():
    assert len(quoted_lines()) >= 10
    messages = messages_in_python() + messages_in_set_up()
    assert any(says(parts, "unknown profile 'x': choose one of a, b") for parts in messages)
    for wrong in ("unknown profile 'x': choose one", "the disk of <x> is empty", "set-up: all is well"):
        assert not any(says(parts, wrong) for parts in messages), wrong


# --------------------------------------------------------------------------- style


BRITISH = re.compile(
    r"\b(colour\w*|behaviou?r(?<!behavior)\w*|neighbour\w*|favour\w*|honour\w*|centre\w*|metre\w*|grey\w*|licence\w*|"
    r"catalogue\w*|programme[sd]?|modell\w+|labell\w+|travell\w+|cancell(?!ation)\w+|"
    r"(?:normal|optim|initial|organ|visual|general|summar|recogn|penal|regular|memor|minim|maxim)is(?:e|es|ed|ing|ation)|"
    r"analys(?:e|ed|ing)|artefact\w*|whilst|learnt|towards)\b",
    re.IGNORECASE,
)


def written() -> dict[str, str]:
    """All text that a reader sees as text: pages and the Markdown cells of notebooks."""
    texts = {page: text_of(page) for page in PAGES}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        markdown = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        texts[f"notebooks/{path.name}"] = "\n".join(markdown)
    return texts


def test_the_spelling_is_american():
    found = {}
    for page, text in written().items():
        words = [match[0] for match in BRITISH.finditer(text)]
        found |= {page: words} if words else {}
    assert found == {}
    assert BRITISH.search("the colour of a neighbouring pixel, normalised")


@EVERY_PAGE
def test_lines_are_short(page):
    for number, line in enumerate(text_of(page).splitlines(), start=1):
        unbroken = line.startswith("|") or re.fullmatch(r"`.+`", line)
        assert len(line) <= 120 or unbroken, f"{page}, line {number}, has {len(line)} characters"


@EVERY_PAGE
def test_a_page_has_one_title_and_no_jump_in_its_headings(page):
    levels = [len(marks) for marks in re.findall(r"^(#+) ", prose(page), flags=re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


# --------------------------------------------------------------------------- nothing private


PRIVATE = re.compile(
    r"(?<![\w.>\]])/(?:home|Users|root|workspace|work)/\w|"
    r"\b(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b(?!\.)|\bfile:///\w|"
    r"https?://[^\s/@]+:[^\s/@]+@|\b(?:index-url|extra-index-url|trusted-host)\b|_authToken",
)


def test_tracked_files_name_no_machine_and_no_registry():
    """No folder of a machine, no private address, no registry and no password in what is published."""
    found = {}
    for name in tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        hits = [match[0] for match in PRIVATE.finditer(text)]
        if hits and name != "tests/repository/test_prose.py":
            found[name] = hits
    assert found == {}
    for text in ("cd /home/ada/study", "pip --index-url x", "http://10.1.2.3/simple", "https://a:b@c.org"):
        assert PRIVATE.search(text), text
