"""Bad input to every command: one line, an exit status other than 0, nothing written, in seconds.

The listed inputs are always tried; ``MLPLIB_BAD_INPUTS=800`` says how many drawn ones join them.
"""

import os
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlpstudy.cli import main
from mlpstudy.profiles import PROFILES

DRAWN = int(os.environ.get("MLPLIB_BAD_INPUTS", "150"))
LONG = "x" * 5000
SECONDS = 10

COMMANDS = (
    ["plan", "filters"],
    ["run", "filters", "--profile", "smoke"],
    ["notebook", "filters", "--profile", "smoke"],
    ["claims", "--profile", "smoke"],
    ["bench", "--model", "B-1/Wi-8", "--data", "shapes-16", "--parts", "steps", "--rounds", "1"],
    ["bench", "accuracy", "--model", "B-1/Wi-8", "--data", "shapes-16", "--epochs", "1"],
    ["data", "prepare", "shapes-16"],
    ["data", "verify", "shapes-16"],
    ["data", "export", "shapes-16", "--out", "exported"],
    ["results", "publish", "filters", "--profile", "smoke"],
    ["results", "merge", "."],
    ["results", "check"],
)
BAD_SEEDS = (
    "x",
    "",
    "[0",
    "0,,1",
    "0,1,",
    "-1",
    "1.5",
    "0,0",
    "1e3",
    "None",
    "[[0]]",
    str(2**32),
    "9" * 5000,
)
BAD_NAMES = ("", " ", "nothing", "../filters", LONG, "Filters", "\udcff", "a\nb", "ä")
BAD = {
    "--seeds": BAD_SEEDS,
    "--profile": BAD_NAMES,
    "--device": ("", "tpu", "cpu:5", "cuda:99", "cpu:x", "cuda:-1", LONG),
    "--loader": BAD_NAMES,
    "--minutes": ("", "0", "-3", "nan", "inf", "1h", "soon", "9" * 5000, "0,5"),
    "--jobs": ("", "0", "-1", "1.5", "many", "1025", "9" * 5000, "0x1"),
}
TAKES = {
    "--seeds": ("plan", "run", "claims", "results publish", "bench"),
    "--profile": ("plan", "run", "notebook", "claims", "results publish"),
    "--device": ("plan", "run", "bench"),
    "--loader": ("run",),
    "--minutes": ("run",),
    "--jobs": ("run",),
}
LISTED = [
    [*command, f"{option}={value}"]
    for option, values in BAD.items()
    for command in COMMANDS
    if any(" ".join(command).startswith(name) for name in TAKES[option])
    for value in values
]
LISTED += [[*command, "--no-such-option"] for command in COMMANDS]
LISTED += [
    [*command, name]
    for command in (["plan"], ["run"], ["notebook"], ["data", "prepare"], ["data", "verify"], ["bench"])
    for name in BAD_NAMES
]
LISTED += [
    ["notebook", "filters", "--profile", "smoke", "-p", parameter]
    for parameter in (
        *(f"seeds={seeds}" for seeds in BAD_SEEDS),
        *(f"profile={name}" for name in BAD_NAMES),
        *(
            f"{folder}={path}"
            for folder in ("runs_dir", "results_dir")
            for path in ("", " ", LONG, "/dev/null", "gone", "gone/x")
        ),
        "results_dir=nowhere",
        "device=tpu",
        "official_checkpoints=x",
        "typo=1",
        "=1",
        "seeds",
    )
]
LISTED += [
    [*command, f"{option}={place}"]
    for option, command in (
        *(("--runs", [name, "filters", "--profile=smoke"]) for name in ("plan", "status", "run")),
        ("--runs", ["claims", "--profile=smoke"]),
        ("--results", ["claims"]),
        ("--results", ["results", "check"]),
        ("--results", ["results", "rerun"]),
        ("--results", ["run", "filters", "--profile=smoke", "--unpublished"]),
    )
    for place in (
        "",
        "file",
        "file/x",
        LONG,
        "gone",
        "gone/x",
        *(["nowhere"] if option == "--results" else []),
    )
]
LISTED += [["data", "export", "cifar10", "--out", place] for place in ("", "file", "file/x", LONG)]
LISTED += [[*COMMANDS[4], f"--json={place}"] for place in ("", ".", "file/x", "/proc/x/y", LONG)]
PLACES = (".", "/dev/null", LONG, "/proc/out.ipynb", "file/out")
LISTED += [
    ["notebook", "transfer", "--profile=smoke", "-p", f"official_checkpoints={place}"]
    for place in ("nowhere", "file")
]
LISTED += [["notebook", "filters", "--out", place] for place in PLACES]
LISTED += [
    ["bench", "--rounds", "0"],
    ["bench", "accuracy", "--parts", "steps"],
    ["claims", "--seeds", "0"],
    ["claims", "--runs", "nowhere"],
    ["claims"],  # MLPLIB_RESULTS names no folder
    ["claims", "--profile", "smoke", "--results", "."],
    [*COMMANDS[4], "--batch-size", "9" * 400],
    ["results", "merge", "nowhere"],
    ["results", "merge", LONG],
    ["nothing"],
]


@pytest.fixture(scope="module", autouse=True)
def empty_folder(tmp_path_factory):
    """An empty folder to be in, with one file in it, and everything that could be written below it."""
    folder = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLPLIB_RUNS", str(folder / "runs"))
        patch.setenv("MLPLIB_RESULTS", str(folder / "results"))
        (folder / "file").write_text("mine")
        (folder / "gone").symlink_to("nowhere")
        yield folder


def refuse(words, folder, capsys) -> str:
    """The one line that the command ends with."""
    before = sorted(folder.rglob("*"))
    start = time.monotonic()
    with pytest.raises(SystemExit) as exit:
        main(words)
    seconds = time.monotonic() - start
    error = capsys.readouterr().err
    assert exit.value.code == 2, words
    assert len(error.splitlines()) == 1 and error.startswith("mlplib: ") and len(error) < 1000, error
    assert seconds < SECONDS
    assert sorted(folder.rglob("*")) == before
    return error


@pytest.mark.parametrize(
    "words", LISTED, ids=lambda words: " ".join(words)[:60].encode("unicode_escape").decode()
)
def test_bad_input_is_refused_in_one_line(words, empty_folder, capsys):
    refuse(words, empty_folder, capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "from-scrach"], "architectures, from-scratch, filters"),
        (["run", "--profile", "huge"], "smoke, laptop, colab, gpu, paper"),
        (["run", "--seeds", "0,x"], "seeds must be"),
        (["run", "--seeds=-1"], "seeds must be at least 0"),
        (["run", "--minutes", "soon"], "'--minutes': Input should be a valid number"),
        (["run", "--minutes", "0"], "--minutes must be a number above 0"),
        (["run", "--jobs", "0"], "'--jobs': Input should be greater than or equal to 1"),
        (["run", "--device", "tpu"], "cpu"),
        (["plan", "--device", "cuda:99"], "cpu"),
        (["notebook", "nothing"], "from-scratch"),
        (["notebook", "filters", "-p", "sede=1"], "choose from profile, seeds"),
        (["notebook", "filters", "-p", "seeds"], "name=value"),
        (["notebook", "filters", "-P", "smoke", "-p", "profile=laptop"], "given as 'laptop' and as 'smoke'"),
        (["notebook", "filters", "-p", "seeds=0", "-p", "seeds=1"], "seeds is given as '0' and as '1'"),
        (["notebook", "filters", "-p", "results_dir=nowhere"], "results_dir must be the path of a folder"),
        (["notebook", "filters", "-p", "runs_dir=gone/x"], "gone is a link to nothing"),
        (["plan", "--runs", "gone"], "gone is a link to nothing"),
        (["run", "filters", "--results", "."], "--results says what --unpublished leaves out"),
        (["results", "publish", "--to", "a", "--results", "b"], "--to and --results both say where"),
        (["data", "prepare", "cifar11"], "cifar10"),
        (["claims", "--format", "pdf"], "table, markdown"),
        (["bench", "--model", "C-3/Wi-4"], "B-<blocks>/Wi-<width>"),
        (
            ["bench", "--data", "shapes-16", "--model", "B-1/Wi-8", "--batch-size", "0"],
            "batch_size must be at least 1",
        ),
        (
            ["bench", "--data", "shapes-16", "--model", "B-1/Wi-8", "--batch-size", "5000"],
            "larger than the 2000",
        ),
        (["bench", "fast"], "speed, accuracy"),
        (["run", "--loader", "fast"], "auto, resident, ffcv"),
        (["bench", "--batch-size", "64"], "need --model"),
        (["bench", "--parts", "stps"], "steps, reference"),
        (["bench", "--model", "B-999999/Wi-999"], "GB of memory"),
        (["bench", "--device", "cpu:5"], "write auto, cpu"),
        (["bench", "accuracy", "--model", ""], "an empty text follows --model: write something there"),
        (["data", "export", "shapes-16", "--out="], "an empty text follows --out="),
        (["results", "publish", "--to", __file__], "--to must be the path of a folder"),
        (["run", "filters", "--minutes", "1e7"], "--minutes must be a number above 0 and below 1e6"),
        (["notebook", "filters", "-p", "runs_dir=None"], "runs_dir must be the path of a folder, not None"),
        (["results", "publish", "filters", "--to", ""], "an empty text follows --to"),
        (["results", "merge", ""], "an empty text follows merge"),
        (
            ["results", "publish", "filters", "--profile=smoke", "--seeds=7", "--runs=a b"],
            "mlplib run filters --profile smoke --seeds 7 --runs 'a b'",
        ),
        (["results", "rerun", "--profile", "gpuu"], "unknown profile 'gpuu'"),
        (["run", "filters", "--profile=smoke", "--runs=/proc/x"], "another folder (--runs or MLPLIB_RUNS)"),
        (["bench", "--against", "HEAD", "--parts", "steps"], "leave accuracy and --parts out"),
        (["bench", "--epochs", "2"], "--epochs is for the benchmark accuracy: leave it out"),
        (["bench", "--against", "HEAD", "--seeds", "0"], "--seeds is for the benchmark accuracy"),
        (["bench", "accuracy", "--rounds", "2"], "--rounds is for the benchmark speed: leave it out"),
        (["data", "prepare", "imagenet-real", "--skip-unreadable"], "imagenet-real are labels: leave"),
        *(
            (words, "there is no such home folder")
            for words in (
                ["notebook", "filters", "-p", "profile=smoke", "--out", "~nobody-here/x.ipynb"],
                ["notebook", "transfer", "-p", "official_checkpoints=~nobody-here"],
                ["notebook", "filters", "-p", "runs_dir=~nobody-here"],
                ["teach", "~nobody-here"],
                ["data", "export", "cifar10", "--out", "~nobody-here"],
                ["plan", "--runs", "~nobody-here"],
            )
        ),
    ],
)
def test_bad_input_is_told_what_to_do(words, expected, empty_folder, capsys):
    assert expected in refuse(words, empty_folder, capsys)


@pytest.mark.parametrize("words", [["bench"], ["bench", "accuracy"], ["bench", "--against", "HEAD"]])
def test_a_file_that_is_no_result_of_the_benchmark_is_not_replaced(words, empty_folder, capsys):
    empty_folder.joinpath("notes.txt").write_text("my notes")
    said = refuse([*words, "--json", "notes.txt"], empty_folder, capsys)
    assert "notes.txt is no results file of this benchmark" in said
    assert empty_folder.joinpath("notes.txt").read_text() == "my notes"


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(max_examples=DRAWN, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["plan", "run", "claims"]),
    st.sampled_from(["--profile", "--device", "--seeds", "--minutes", "--jobs"]),
    TEXT,
)
@example("plan", "--seeds", "[0")
def test_drawn_input_is_refused_in_one_line(empty_folder, capsys, command, option, text):
    valid = {*PROFILES, "auto", "cpu", "cuda"}
    if text in valid or any(character.isdigit() for character in text):
        return
    words = ["--profile", "smoke"] if command == "claims" else ["filters"]
    refuse([command, *words, f"{option}={text}"], empty_folder, capsys)
