"""``mlplib bench``: numbers follow from rows, rows survive JSON, targets are judged, the timed is real."""

import dataclasses
import json
import operator
import socket
import statistics
import sys
import time

import numpy as np
import pytest
import torch
from small_runs import ROOT

from mlplib import machine
from mlplib.data import beton
from mlplib.data.augment import crop_and_flip, draw
from mlplib.errors import MlplibError
from mlplib.progress import quiet
from mlplib.specs import FULL_DA
from mlpstudy.bench import accuracy, derived, growth, loaders, rounds, show, speed, tried, workloads
from mlpstudy.bench.cases import CPU_CASES, GPU_CASES, NOISE, WITHOUT_MIXUP, Case, default_cases
from mlpstudy.bench.reference import ReferenceLoop
from mlpstudy.bench.targets import MET, NOT_MEASURED, NOT_MET, TARGETS, bounds, judge

CPU = torch.device("cpu")
TINY = Case("B-1/Wi-16", "shapes-16", 128)
NO_FFCV = "FFCV is not installed (make test compiles it where its headers are)"


@pytest.fixture(scope="module")
def found():
    """Everything but the reference loop and FFCV, of a tiny network, in short turns."""
    effort = speed.Effort(3, 0.002, brief=True)
    parts = [part for part in speed.PARTS if part not in ("reference", "compiled")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beton, "installed", lambda: False)  # compiling it takes longer than all the rest
        patch.setattr(growth, "STARTS", 1)
        return speed.measure([TINY], CPU, effort=effort, progress=quiet, command="a test", parts=parts)


@pytest.fixture(scope="module")
def training():
    return workloads.Training(TINY, TINY.images(), CPU)


# --------------------------------------------------------------------------- rows and what follows from them


def test_every_row_has_a_time_for_every_round_or_a_reason(found):
    groups = {row["group"] for row in found["rows"]}
    assert groups == {TINY.name, "loaders", "layers", "tried", "growth", "start-up"}
    assert len({(row["group"], row["id"]) for row in found["rows"]}) == len(found["rows"])
    for row in found["rows"]:
        if row["id"] == "memory":
            assert len(row["memory_bytes"]) == growth.EPOCHS and min(row["memory_bytes"]) > 0
        elif row["id"] in ("ffcv", "streamed", "streamed-epoch"):
            assert row["why"] == "FFCV is not installed" and "seconds" not in row
        else:
            assert len(row["seconds"]) == (1 if row["id"] == "start-up" else 3), row
            assert min(row["seconds"]) > 0 and row["calls"] >= 1


def test_ratios_are_those_of_the_rows_round_by_round(found):
    numbers = {(number["group"], number["id"]): number for number in found["derived"]}
    rows = derived.rows_of(found, TINY.name)
    ours, plain, roof = (np.array(rows[id]["seconds"]) for id in ("end-to-end", "end-to-end-no-da", "matmul"))
    shares = rows["end-to-end"]["flops"] / ours / (rows["matmul"]["flops"] / roof)
    assert list(derived.summary(list(shares)).items()) == [
        (key, pytest.approx(numbers[TINY.name, "share"][key])) for key in ("value", "q25", "q75")
    ]
    seconds = np.median(ours) / 128
    for id, expected in (
        ("da-adds", 100 * (np.median(ours / plain) - 1)),
        ("imagenet21k-epoch", 11_801_680 * seconds),
        ("cifar10-5000", 5000 * 50_000 * seconds / 60),
    ):
        assert numbers[TINY.name, id]["value"] == pytest.approx(expected)
    assert numbers[TINY.name, "over-reference"]["why"] == "it was not asked for"
    assert numbers["loaders", "ffcv-rate"]["why"] == "FFCV is not installed"
    growing = derived.rows_of(found, "growth")
    pairs = zip(growing["twice-the-images"]["seconds"], growing["images"]["seconds"], strict=True)
    assert numbers["growth", "time"]["value"] == statistics.median(a / b for a, b in pairs)


def test_a_file_survives_json_gives_the_same_numbers_again_and_tells_no_folder_or_host(found):
    text = json.dumps(found, allow_nan=False)
    read = json.loads(text)
    assert read == found
    assert derived.numbers(read["rows"], read["cases"]) == found["derived"]
    assert [judge(target, read) for target in TARGETS] == found["targets"]
    assert found["machine"]["torch"] == torch.__version__ and "ffcv" in found["machine"]
    assert found["command"] == "a test" and found["seconds"] > 0
    assert socket.gethostname() not in text and str(speed.__file__.split("mlpstudy")[0]) not in text


def test_tables_show_every_row_and_every_target(found):
    text = "\n".join(f"{title} {cells.to_csv()}" for title, cells in show.tables(found))
    for row in found["rows"]:
        assert row["name"] in text.replace('"', "") or row["group"] == "start-up"
    assert all(target.sentence in text for target in TARGETS)
    assert text.count("not measured") >= 9


def test_rows_are_of_works_in_turns_after_a_warm_up():
    calls = []
    works = [rounds.Work(id, id, lambda n, id=id: calls.append((id, n)), calls=2) for id in "ab"]
    rows = rounds.time_works([*works, rounds.Work("c", "c", why="no c here")], 3, CPU, group="g")
    assert calls == [(id, 2) for id in "ababbaab"]
    assert [len(row.get("seconds", ())) for row in rows] == [3, 3, 0]
    by_id = {row["id"]: row for row in rows}
    assert derived.per_round(by_id, operator.truediv, "a", "c") == {"why": "no c here"}
    assert derived.per_round({"a": {"seconds": [1.0]}}, lambda a: 2 * a, "a")["q75"] == 2.0


@pytest.mark.parametrize(("most", "least", "expected"), [(10**6, 1, 10), (4, 1, 4), (10**6, 50, 50)])
def test_a_turn_lasts_about_as_long_as_asked(most, least, expected, monkeypatch):
    monkeypatch.setattr(rounds.timing, "seconds_per_call", lambda run, calls, device: 0.01)
    work = rounds.Work("a", "a", lambda n: None, least=least, most=most)
    assert work.calls_per_turn(CPU, turn_seconds=0.1) == expected


# --------------------------------------------------------------------------- targets


def judged(number: float, target, device: str, threads: int = 2) -> dict:
    kind = "cpu" if device.startswith("AMD") else "cuda"
    values = {"group": target.group, "id": target.number, **derived.summary([number])}
    machine = {"device": device, "device_type": kind, "cpu_threads": threads}
    return judge(target, {"machine": machine, "derived": [values]})


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.id)
def test_a_target_is_met_on_its_bounds_and_not_beyond(target):
    device = "NVIDIA H200" if target.on == "gpu" else "AMD EPYC"
    for bound, factor in ((target.low, 0.99), (target.high, 1.01)):
        if bound is not None:
            assert judged(bound, target, device)["verdict"] == MET
            beyond = judged(factor * bound, target, device)
            assert beyond["verdict"] == NOT_MET and beyond["value"] == factor * bound
    assert target.low is not None or target.high is not None
    assert target.reason and bounds(target)


@pytest.mark.parametrize(
    ("id", "device", "threads", "why"),
    [
        ("gpu-share", "AMD EPYC", 2, "no CUDA GPU"),
        ("gpu-share", "Tesla T4", 2, "Tesla T4 is of another class"),
        ("gpu-share", "NVIDIA H100 80GB HBM3", 2, None),
        ("cpu-share", "AMD EPYC", 8, "CPU threads: 8, not 2"),
        ("cpu-share", "NVIDIA H200", 2, "measured on a GPU"),
        ("start-up", "Tesla T4", 2, None),
    ],
)
def test_targets_are_for_the_machine_that_they_name(id, device, threads, why):
    (target,) = (target for target in TARGETS if target.id == id)
    row = judged(target.low or target.high, target, device, threads)
    assert (row["verdict"], row.get("why")) == ((NOT_MEASURED, why) if why else (MET, None))


def test_targets_are_about_the_cases_that_are_timed_without_options():
    assert {case.name for case in (*CPU_CASES, *GPU_CASES)} <= {target.group for target in TARGETS}
    assert default_cases(CPU) == CPU_CASES and default_cases(torch.device("cuda")) == GPU_CASES
    assert len({target.id for target in TARGETS}) == len(TARGETS)
    nothing = {"machine": {"device": "AMD", "device_type": "cpu", "cpu_threads": 2}, "derived": []}
    assert {judge(target, nothing)["verdict"] for target in TARGETS} == {NOT_MEASURED}


# --------------------------------------------------------------------------- what is timed


def test_training_is_training_and_turns_end_with_their_epoch(training):
    losses, state = [], training.state
    for _ in range(3):
        training.augmented.train(4)
        losses.append(state.history["train_loss"][-1])
        assert state.batch == 0
    assert state.images == 3 * 4 * 128 and state.epoch == 3
    training.augmented.load(4)
    assert (state.epoch, state.batch, state.images) == (4, 0, 3 * 4 * 128)
    assert losses[-1] < losses[0]


def test_the_products_alone_are_those_that_are_counted(training):
    from torch.utils.flop_counter import FlopCounterMode

    work = training.products()
    with FlopCounterMode(display=False) as counter:
        work.run(1)
    assert counter.get_total_flops() == pytest.approx(work.flops)
    convolutional = dataclasses.replace(TINY, model="small-cnn")
    assert "linear layers" in workloads.Training(convolutional, TINY.images(), CPU).products().why


def test_the_parts_of_a_step_leave_the_state_alone(training):
    before = [weight.clone() for weight in training.state.model.parameters()]
    optimizer = next(work for work in training.works() if work.id == "optimizer")
    optimizer.run(3)
    training.augmented.load(2)
    after = training.state.model.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    copy = workloads.own_copy(training.fixed)
    assert torch.equal(copy.images, training.fixed.images) and copy.lam == training.fixed.lam
    assert copy.images.data_ptr() != training.fixed.images.data_ptr()


def test_the_reference_loop_is_timed_without_ffcv_as_far_as_it_goes(training, monkeypatch, tmp_path):
    monkeypatch.setattr(beton, "installed", lambda: False)
    whole, step = training.reference_works(tmp_path)
    assert whole.why == "FFCV is not installed" and step.id == "reference-step"
    step.run(1)


@pytest.mark.slow
def test_the_reference_loop_is_fed_by_ffcv(training, tmp_path, monkeypatch):
    pytest.importorskip("ffcv", reason=NO_FFCV)
    threads, losses, step = torch.get_num_threads(), [], ReferenceLoop.step
    monkeypatch.setattr(ReferenceLoop, "step", lambda self, batch: losses.append(step(self, batch)["loss"]))
    whole, _ = training.reference_works(tmp_path)
    whole.run(whole.calls)
    assert len(losses) == whole.calls == workloads.REFERENCE_STEPS and min(losses) > 0
    assert torch.get_num_threads() == threads


def test_images_from_ffcv_files_are_trained_on_and_loaded(training):
    pytest.importorskip("ffcv", reason=NO_FFCV)
    training.streamed(FULL_DA, quiet).train(2)
    runner = training.streamed(WITHOUT_MIXUP, quiet)
    assert runner.loop.data.loader == "ffcv"
    runner.load(3)
    assert (runner.state.epoch, runner.state.images) == (1, 0)


def test_grid_sample_crops_as_products_do_but_for_the_edges():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (32, 3, 12, 10), dtype=np.uint8))
    spec = dataclasses.replace(WITHOUT_MIXUP, crop_scale=(0.3, 1.0))
    draws = draw(spec, np.arange(32), (12, 10), rng)
    ours = crop_and_flip(images, draws, torch.float32)
    theirs = tried.grid_sampled(images, draws, torch.float32)
    assert (ours - theirs)[:, :, 2:-2, 2:-2].abs().max() < 0.01
    assert (ours - theirs).abs().mean() < 8


def test_every_trial_is_measured_and_its_ratio_is_of_the_rows(found):
    results = {trial.id: ratio for trial, ratio in tried.results(found)}
    assert list(results) == [trial.id for trial in tried.TRIALS if trial.id != "compiled"]
    rows = derived.rows_of(found, "tried")
    ours, other = rows["larger-batch: ours"], rows["larger-batch"]
    assert other["images"] == 4 * ours["images"]
    ratios = [b / 4 / a for a, b in zip(ours["seconds"], other["seconds"], strict=True)]
    assert results["larger-batch"]["value"] == pytest.approx(statistics.median(ratios))
    for low, high, word in ((0.8, 0.9, "faster"), (1.1, 1.2, "slower"), (0.9, 1.1, "no different")):
        assert show.faster({"q25": low, "q75": high}) == word


def test_a_batch_of_most_images_leaves_out_what_needs_more_of_them():
    # 1,200 of 2,000: the larger batch had 2,000 but counted as 4,800, and growth ended the whole benchmark.
    case = dataclasses.replace(TINY, batch_size=1200)
    effort = speed.Effort(1, 0.002, brief=True)
    measured = speed.measure(
        [case], CPU, effort=effort, progress=quiet, command="a test", parts=["tried", "growth"]
    )
    assert "larger-batch" not in derived.rows_of(measured, "tried")
    numbers = derived.numbers_of(measured, "growth")
    assert {each["why"] for each in numbers.values()} == {growth.TOO_FEW}
    assert all(len(frame) for _, frame in show.tables(measured))


def test_layers_count_what_they_move_and_compute():
    works = {work.id: work for work in workloads.layer_works(CPU, torch.bfloat16, brief=True)}
    work = works["width-32-batch-16"]
    assert work.flops == 2 * 16 * 32 * 128
    assert work.bytes == 2 * (16 * 32 + 32 * 128 + 16 * 128)


@pytest.mark.parametrize("path", sorted((ROOT / "results/bench").glob("*.json")), ids=lambda p: p.stem)
def test_a_published_table_shows_nothing_twice(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    for group in {row["group"] for row in found.get("rows", [])} - {"tried"}:
        assert show.timings(found, group)[1]["measure"].is_unique


def test_a_rate_is_not_measured_twice():
    names = {
        precision: [work.name for work in workloads.machine_works(CPU, precision)]
        for precision in ("bf16", "fp32")
    }
    assert names["bf16"][:2] == ["matrix product, bf16, side 2048", "matrix product, fp32, side 2048"]
    assert names["fp32"] == [names["bf16"][1], "copy within memory"]


def test_memory_in_use_sees_memory_that_is_kept_and_given_back():
    before = growth.memory_in_use(CPU)
    kept = torch.ones(2**24)
    assert growth.memory_in_use(CPU) - before > 0.9 * kept.nbytes
    del kept
    assert growth.memory_in_use(CPU) - before < 0.1 * 2**26


def test_growth_is_measured_from_the_epochs_that_have_settled():
    assert growth.settled_growth([100, 150, 200, 200, 210])["growth"] == pytest.approx(0.05)
    assert "why" in growth.settled_growth([0, 0])


def test_torchvisions_loader_gives_whole_batches_of_all_images(training):
    split = training.first_images(256)
    assert split.images.shape == (256, 16, 16, 3) and split.images.dtype == np.uint8
    assert (split.images == TINY.images().train.images[:256]).all()
    loader = loaders.torchvision_loader(split, 64, (0.5,) * 3, (0.25,) * 3)
    images, labels = zip(*loader, strict=True)
    assert [tuple(each.shape) for each in images] == [(64, 3, 16, 16)] * 4
    assert torch.cat(labels).bincount().tolist() == np.bincount(split.labels).tolist()
    assert all(each.dtype == torch.float32 and each.abs().max() <= 2.001 for each in images)


def test_noise_stands_in_for_images_that_are_not_there():
    case = Case("B-1/Wi-16", NOISE, 4, 8)
    images = case.images()
    assert images.train.images.shape == (16, 8, 8, 3) and images.train.images.dtype == np.uint8
    assert images.train.labels.max() < len(images.classes) == 11_230 and images.content_hash == NOISE
    training = workloads.Training(case, images, CPU)
    assert training.data.image_shape == (8, 8, 3)
    assert training.why_no_files() == "random pixels are not written to files"


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("B-1", "shapes-16", 64), "unknown model"),
        (Case("", "shapes-16", 64), "unknown model"),
        (Case("B-1/Wi-16", "shapes", 64), "shapes-16"),
        (Case("B-1/Wi-16", "shapes-16", 0), "batch_size must be at least 1"),
        (Case("B-1/Wi-16", "shapes-16", 5000), "larger than the 2000"),
        (Case("B-1/Wi-16", "shapes-16", 64, 16), "leave resolution out"),
        (Case("B-1/Wi-16", NOISE, 64, -1), "resolution must be at least 1"),
        (Case("B-999999/Wi-999", "shapes-16", 64), "GB of memory.*choose a smaller model"),
        (Case("B-1/Wi-16", NOISE, 10**9 - 1), "GB of memory.*batch size"),
        (Case("B-1/Wi-16", "cifar10", 1024, 10**6), "GB of memory.*resolution"),
    ],
)
def test_a_case_that_is_not_possible_is_refused_in_one_line(case, why):
    start = time.monotonic()
    with pytest.raises(MlplibError, match=why):
        speed.measure([case], CPU, progress=quiet, command="", parts=["steps"])
    assert time.monotonic() - start < 10


# --------------------------------------------------------------------------- accuracy


def test_accuracy_compares_precisions_seed_by_seed():
    found = accuracy.measure(TINY, CPU, seeds=(0, 1), epochs=3, progress=quiet, command="a test")
    usual = machine.pick_precision("auto", CPU)
    settings = [(run["da"], run["precision"]) for run in found["runs"] if run["seed"] == 0]
    assert settings == list(dict.fromkeys([(True, usual), (False, usual), (True, "bf16"), (True, "fp32")]))
    final = {(run["precision"], run["seed"]): run["top1"]["3"] for run in found["runs"] if run["da"]}
    points = [100 * (final["bf16", seed] - final["fp32", seed]) for seed in (0, 1)]
    first = found["differences"][0]
    assert first["points"] == pytest.approx(statistics.mean(points)) and first["n"] == 2
    assert first["low"] <= first["points"] <= first["high"]
    curves = accuracy.mean_curves(found["runs"])
    assert list(curves.columns) == ["1", "2", "3"]
    assert curves.loc[(True, "fp32"), "3"] == pytest.approx((final["fp32", 0] + final["fp32", 1]) / 2)
    text = "".join(title + cells.to_csv() for title, cells in show.tables(found))
    assert "bf16 over float32" in text and "n = 2" in text and "with DA, fp32" in text
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_accuracy_of_one_seed_has_no_interval_and_a_diverged_run_does_not_count():
    runs = [
        dict(da=True, precision=p, seed=0, status="completed", top1={"1": a})
        for p, a in (("bf16", 0.5), ("fp32", 0.25))
    ]
    one = accuracy.difference("x", runs, (True, "bf16"), (True, "fp32"))
    assert one == {"name": "x", "points": 25.0, "low": None, "high": None, "n": 1}
    runs[1] |= {"status": "diverged", "top1": {}}
    assert "why" in accuracy.difference("x", runs, (True, "bf16"), (True, "fp32"))
    assert accuracy.mean_curves(runs)["1"].isna().tolist() == [False, True]


@pytest.mark.parametrize("epochs, expected", [(20, (5, 10, 15, 20)), (3, (1, 2, 3)), (1, (1,))])
def test_accuracy_is_looked_at_a_few_times(epochs, expected):
    assert accuracy.evaluation_epochs(epochs) == expected


def test_the_command_in_a_file_names_no_folder(monkeypatch, tmp_path):
    from mlpstudy.cli.bench import _command

    monkeypatch.setattr(sys, "argv", ["/some/bin/mlplib", "bench", "--json", f"{tmp_path}/here.json"])
    assert _command() == "mlplib bench --json here.json"
