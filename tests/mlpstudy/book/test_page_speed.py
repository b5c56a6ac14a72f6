"""The chapter on speed shows what files and this execution measured, and nothing else."""

import html
import json
import re

import matplotlib
import pandas as pd
import pytest
import torch
from small_runs import ROOT

from mlplib.errors import MlplibError
from mlplib.timing import summary
from mlpstudy.bench import accuracy, against, derived, show, speed, tried
from mlpstudy.bench.cases import CPU_CASES, GPU_CASES
from mlpstudy.bench.targets import TARGETS, bounds, judge
from mlpstudy.book import page_speed
from mlpstudy.book.page_speed import open_how_fast
from mlpstudy.plots import look
from mlpstudy.plots import speed as draw
from mlpstudy.profiles import PROFILES

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measured():
    """A published file's content."""
    return json.loads((ROOT / "results" / "bench" / "cpu-2-cores.json").read_text())


@pytest.fixture
def results(measured, tmp_path):
    """A folder of results with that file."""
    (tmp_path / "results" / "bench").mkdir(parents=True)
    (tmp_path / "results" / "bench" / "a-cpu.json").write_text(json.dumps(measured))
    return tmp_path / "results"


def opened(results, tmp_path, **changes):
    folders = dict(runs_dir=str(tmp_path / "runs"), results_dir=str(results))
    return open_how_fast(**(dict(profile="smoke", seeds=[0], device="cpu") | folders | changes))


def everything(page) -> dict[str, str]:
    calls = "banner steps parts loaders roofline targets tried precision runs epochs provenance".split()
    return {call: str(getattr(page, call)()) for call in calls}


def test_a_page_shows_every_row_and_target_of_a_published_file(results, tmp_path, measured):
    parts = everything(opened(results, tmp_path))
    for case in measured["cases"]:
        for row in derived.rows_of(measured, case["name"]).values():
            name = re.escape(html.escape(row["name"]))
            cells = re.findall(rf'<th scope="row">{name}</th>\s*<td>(.*?)</td>', parts["steps"])
            assert show.milliseconds(row["seconds"]) in cells
    for trial, ratio in tried.results(measured):
        assert html.escape(trial.name) in parts["tried"] and html.escape(trial.hope) in parts["tried"]
        assert show.spread(ratio) in parts["tried"]
    assert measured["command"] in parts["provenance"] and measured["machine"]["torch"] in parts["provenance"]
    assert "a-cpu.json" in parts["banner"]
    assert parts["parts"].count("<svg ") == parts["roofline"].count("<svg ") == 1
    assert "matrix products" in re.search(r'aria-label="(.*?)"', parts["parts"])[1]
    assert "this execution" not in "".join(parts.values()).replace("this execution, smoke", "")
    for target in TARGETS:
        for text in (target.sentence, target.reason, bounds(target)):
            assert html.escape(text) in parts["targets"]
    judged = [row for row in measured["targets"] if row["verdict"] != "not measured"]
    assert parts["targets"].count("mlp-verdict") == len(TARGETS)
    assert f"of {len(judged)} measured" in parts["targets"]


def test_code_is_not_compared_with_itself(measured):
    """On a machine that is best at float32, a step in float32 is ours."""
    names = {}
    for precision in ("bf16", "fp32"):
        machine = measured["machine"] | {"precision": precision}
        names[precision] = {trial.id for trial, _ in tried.results(measured | {"machine": machine})}
    same = {"float32", "gelu-in-pytorch", "augmentation-in-pytorch"}
    assert same <= names["bf16"] and names["fp32"] == names["bf16"] - same


def test_the_papers_epoch_stands_beside_those_of_its_images_and_batch():
    """The other cases, of smaller images or batches, would say nothing about it."""
    page = open_how_fast(profile="published")
    rows = re.findall(r"<tr>(.*?)</tr>", str(page.epochs()), flags=re.DOTALL)[1:]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert [row[-4:-1] for row in cells[:2]] == [
        ["B-12/Wi-1024", "NVIDIA RTX A5000", "about 450 s"],
        ["B-6/Wi-1024", "NVIDIA RTX A5000", "about 250 s"],
    ]
    assert cells[0][-1] == f"{11_801_680 / 450:,.0f}"
    large = [name for name, found in page.files.items() if found["cases"][0]["batch_size"] == 16384]
    assert [row[0] for row in cells[2:]] == large == ["gpu-h200"]


@pytest.mark.parametrize(
    "verdict, look", [("met", "reproduced"), ("not met", "not"), ("not measured", "untested")]
)
def test_a_verdict_has_its_word_and_its_look(verdict, look):
    row = {"verdict": verdict, "why": "no CUDA GPU"}
    if verdict != "not measured":
        row = {"verdict": verdict, "value": 0.853, "q25": 0.8, "q75": 0.9, "unit": "times"}
    text = page_speed.verdict(row)
    assert f'class="mlp-verdict {look}">{verdict}<' in text
    assert ("no CUDA GPU" if "why" in row else "0.85 times") in text


def test_without_a_published_file_the_page_says_how_to_make_one(tmp_path):
    (tmp_path / "none").mkdir()
    parts = everything(opened(tmp_path / "none", tmp_path))
    for call in ("steps", "loaders", "tried", "provenance"):
        assert page_speed.COMMAND.replace("<", "&lt;").replace(">", "&gt;") in parts[call]
    assert "no published file" in parts["banner"] and "no published file" in parts["targets"]
    assert "No training runs" in parts["runs"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 99, "what": "speed"}'])
def test_a_file_that_is_none_of_ours_is_named(content, results, tmp_path):
    (results / "bench" / "other.json").write_text(content)
    with pytest.raises(MlplibError, match=r"^other.json is not a file of mlplib bench: make it again"):
        opened(results, tmp_path)


def test_accuracies_and_revisions_are_shown_and_are_no_measurement_of_speed(results, tmp_path, measured):
    page = opened(results, tmp_path)
    assert "mlplib bench accuracy --json" in str(page.precision())
    published = ROOT / "results" / "bench" / "accuracy-cpu-2-cores.json"
    found = json.loads(published.read_text())
    (results / "bench" / "accuracy.json").write_text(published.read_text())
    row = {"id": "step", "name": "the step alone", "old_seconds": [0.3, 0.3], "new_seconds": [0.1, 0.1]}
    two = {"case": "a case", "old": "v1 (abc)", "new": "def", "rounds": 2, "machine": measured["machine"]}
    against.append(results / "bench" / "compared.json", two | {"rows": [row | summary([3.0, 3.0])]})
    page = opened(results, tmp_path)
    text = str(page.precision())
    for run in found["runs"]:
        assert f"with{'' if run['da'] else 'out'} DA, {run['precision']}" in text
    for effect in found["differences"]:
        assert f"{effect['points']:+.2f}" in text and f"n = {effect['n']}" in text
    assert list(page.files) == ["a-cpu"] and found["command"] in str(page.provenance())
    text = str(page.tried())
    assert "a case: def against v1 (abc)" in text and "3.00 [3.00, 3.00] times" in text


@pytest.mark.parametrize(
    "seeds, end", [([3, 4], "smoke -p seeds=3,4<"), ([0, 1], "smoke<"), (None, "smoke<")]
)
def test_the_command_to_do_it_again_names_seeds_that_are_not_the_profiles(seeds, end, results, tmp_path):
    banner = opened(results, tmp_path, seeds=seeds).banner()
    assert f"<code>mlplib notebook how-fast --profile {end}" in banner


def test_what_is_measured_live_is_shown_beside_the_files(results, tmp_path):
    page = opened(results, tmp_path, seeds=[3, 4])
    text = str(page.measure())
    case = speed.live_case(PROFILES["smoke"], CPU)
    assert case.name in text and "this execution" in text
    rows = derived.rows_of(page.live, case.name)
    assert len(rows["step"]["seconds"]) == 2 * speed.LIVE["smoke"].rounds == page.live["rounds"]
    assert derived.numbers(page.live["rows"], page.live["cases"]) == page.live["derived"]
    parts = everything(page)
    live = [ratio for _, ratio in tried.results(page.live)]
    in_float32 = page.live["machine"]["precision"] == "fp32"
    expected = [trial for trial in tried.TRIALS[:-1] if not (in_float32 and trial.low_precision)]
    assert len(live) == len(expected) and all(show.spread(ratio) in parts["tried"] for ratio in live)
    assert "this execution" in parts["provenance"] and "--profile smoke" in parts["provenance"]
    assert set(page.layers()["source"]) == {"a-cpu", "this execution"}


def test_the_parts_of_a_step_add_up_to_the_step():
    seconds = {"products": 5.0, "optimizer": 1.0, "step": 8.0, "end-to-end-no-da": 9.0, "end-to-end": 9.5}
    rows = {id: {"seconds": [each]} for id, each in seconds.items()}
    found = derived.step_parts(rows)
    assert list(found) == list(derived.PARTS) == list(draw.PARTS)
    assert list(found.values()) == [5.0, 2.0, 1.0, 1.0, 0.5] and sum(found.values()) == 9.5
    faster = rows | {"end-to-end": {"seconds": [7.9]}}
    assert derived.step_parts(faster)["augmentation"] == 0
    assert derived.step_parts(rows | {"products": {"why": "convolutions"}}) == {}


def test_profiles_time_what_their_machines_can():
    assert speed.live_case(PROFILES["laptop"], CPU) == CPU_CASES[1]
    assert speed.live_case(PROFILES["gpu"], torch.device("cuda")) == GPU_CASES[1]
    assert speed.live_case(PROFILES["paper"], CPU) == CPU_CASES[1]


def test_training_runs_are_those_that_trained(tmp_path):
    """Of the study's published records: every training run once."""
    page = opened(page_speed.results_folder(None), tmp_path)
    runs = list(page.training_runs())
    assert len(runs) > 50 and len({(side, record.id) for side, record in runs}) == len(runs)
    assert all(record.spec.kind == "train" for _, record in runs)
    text = str(page.runs())
    counts = [int(n) for n in re.findall(r"</th>\s*<td>[^<]*</td>\s*<td>([\d,]+)</td>", text)]
    assert sum(counts) == len(runs)


def test_published_files_say_what_follows_from_their_rows():
    """Nobody edited them: their numbers and verdicts come out again."""
    files = page_speed.read_files(page_speed.results_folder(None) / page_speed.FOLDER)
    assert files
    for name, found in files.items():
        if found["what"] == "accuracy":
            again = accuracy.differences(found["runs"], found["machine"]["precision"])
            pd.testing.assert_frame_equal(*map(pd.DataFrame, (found["differences"], again)), rtol=1e-9)
            assert found["command"].startswith("mlplib bench accuracy ")
            continue
        if found["what"] == "against":
            for row in (row for each in found["comparisons"] for row in each["rows"]):
                ratios = [old / new for old, new in zip(row["old_seconds"], row["new_seconds"], strict=True)]
                assert {"value": row["value"], "q25": row["q25"], "q75": row["q75"]} == summary(ratios)
            continue
        again = {(d["group"], d["id"]): d for d in derived.numbers(found["rows"], found["cases"])}
        for number in found["derived"]:
            assert again[number["group"], number["id"]] == number
        verdicts = {target.id: judge(target, found) for target in TARGETS}
        assert all(verdicts[row["id"]] == row for row in found["targets"])
        some = r"--parts [\w,-]+ --rounds \d+ " if found["machine"]["device_type"] == "cuda" else ""
        assert re.fullmatch(rf"mlplib bench {some}--json results/bench/{name}\.json", found["command"])


# --------------------------------------------------------------------------- figures


STEPS = pd.DataFrame(
    dict(what=what, part=part, milliseconds=scale * value)
    for what, scale in (("B-6/Wi-512,\na-cpu", 107), ("B-6/Wi-256,\na-cpu", 1))
    for part, value in zip(draw.PARTS, (6.0, 2.0, 1.0, 0.0, 1.0), strict=True)
    if value
)
POINTS = pd.DataFrame(
    (source, width, batch, float(batch), width * batch * 1e6, 1e11, 1e10)
    for source in ("a-cpu", "a-gpu")
    for width in (64, 128)
    for batch in (1, 8, 64)
).set_axis(["source", *derived.LAYER], axis=1)


def test_the_bars_are_shares_with_the_whole_beside_them():
    (axes,) = draw.step_parts(STEPS).axes
    ends = sorted(bar.get_x() + bar.get_width() for bar in axes.patches)
    assert ends[-2:] == pytest.approx([100, 100]) and len(axes.patches) == 8
    assert [text.get_text() for text in axes.texts] == ["1,070 ms", "10.0 ms"]


def test_layers_lie_where_they_were_measured_under_the_roof_of_their_device():
    figure = draw.layer_roofline(POINTS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a-cpu", "a-gpu"]
    roof, first, second = figure.axes[0].lines
    assert max(roof.get_ydata()) == 1e11
    assert list(first.get_ydata()) == [64e6, 512e6, 4096e6] and list(second.get_xdata()) == [1, 8, 64]


def test_figures_without_data_say_so_and_leave_the_readers_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    for figure, frame in ((draw.step_parts, STEPS), (draw.layer_roofline, POINTS)):
        assert "nothing to draw" in figure(frame[:0]).axes[0].texts[0].get_text()
        width, _ = figure(frame).get_size_inches()
        assert width == look.WIDTH
    assert dict(matplotlib.rcParams) == before
