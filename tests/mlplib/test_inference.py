"""Inference speed: what is measured, what is skipped and why, and the memory that a pass takes."""

import dataclasses
import re
import statistics
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mlplib import gelu, inference, machine, timing
from mlplib.errors import Interrupted, MlplibError
from mlplib.execution import Execution
from mlplib.executor import Executor
from mlplib.inference import FLOAT32, RESIDENT, UINT8, WAYS, PassCounter
from mlplib.specs import ModelSpec, TimingSpec
from mlplib.stopping import StopRequest
from mlplib.store import Record, RunStore
from mlpstudy import planning

CPU = torch.device("cpu")
TINY = TimingSpec(
    ModelSpec.parse("B-1/Wi-16"), (1, 4, 16), seconds=20.0, image_size=8, classes=5, precision="fp32"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short repeats, and no measurement of the machine's rates, which takes seconds."""
    for name in ("memory_rate", "transfer_rate", "matmul_rate"):
        monkeypatch.setattr(timing, name, lambda *_: 1e9)
    for name, value in (("REPEAT_SECONDS", 0.001), ("MAX_REPEATS", 4), ("MAX_SINGLE", 5)):
        monkeypatch.setattr(inference, name, value)


def changed(**changes) -> TimingSpec:
    return dataclasses.replace(TINY, **changes)


def outcomes(timed) -> dict[int, str]:
    return {entry["batch_size"]: entry["outcome"] for entry in timed.history["batches"]}


def measure(spec: TimingSpec, **how) -> SimpleNamespace:
    parts = inference.measure(spec, Execution(device=CPU, **how))
    return SimpleNamespace(**dict(zip(("metrics", "history", "compute"), parts, strict=True)))


def bench(spec=TINY) -> inference.Bench:
    return inference.Bench(spec, CPU, spec.precision, StopRequest())


# --------------------------------------------------------------------------- what is measured


@pytest.mark.parametrize("name", ["B-1/Wi-16", "S-2/Wi-16", "small-cnn"])
def test_a_timing_holds_what_its_medians_are_made_from(name):
    done = measure(changed(model=ModelSpec.parse(name)))
    latency, metrics = done.history["latency"], done.metrics
    assert inference.MIN_REPEATS <= len(latency) <= inference.MAX_SINGLE and min(latency) > 0
    assert metrics["latency_s"] == statistics.median(latency)
    assert metrics["latency_s_q25"] <= metrics["latency_s"] <= metrics["latency_s_q75"]
    assert outcomes(done) == dict.fromkeys((1, 4, 16), inference.MEASURED)
    for way in WAYS:
        rates = {}
        for entry in done.history["batches"]:
            assert len(entry["seconds"][way]) >= inference.MIN_REPEATS and min(entry["seconds"][way]) > 0
            rates[entry["batch_size"]] = entry["batch_size"] / statistics.median(entry["seconds"][way])
        assert metrics[f"images_per_second_{way}"] == max(rates.values())
        assert rates[metrics[f"best_batch_{way}"]] == max(rates.values())
    assert done.compute["matmul_fraction"] == pytest.approx(
        2 * metrics["forward_macs"] * metrics["images_per_second_resident"] / 1e9
    )


def test_parameters_and_macs_are_counted():
    metrics = measure(TINY).metrics
    pixels, m, k, classes = 3 * 8 * 8, 16, 4, 5
    assert metrics["forward_macs"] == pixels * m + 2 * k * m * m + m * classes
    linear = (pixels * m + m) + (2 * k * m * m + k * m + m) + (m * classes + classes)
    assert metrics["parameters"] == linear + 2 * m


def test_bf16_weights_are_timed_in_bf16():
    one = bench(changed(precision="bf16"))
    assert {p.dtype for p in one.network.parameters()} == {torch.bfloat16}
    works = inference.Batch(one, 3).works()
    assert {work().dtype for work in works.values()} == {torch.bfloat16}


def test_all_ways_compute_on_the_same_images():
    one = bench()
    logits = {way: work() for way, work in inference.Batch(one, 7).works().items()}
    assert logits[RESIDENT].shape == (7, 5) and logits[RESIDENT].std() > 0
    for way in (UINT8, FLOAT32):
        torch.testing.assert_close(logits[way], logits[RESIDENT], rtol=1e-4, atol=1e-5)
    again = inference.Batch(bench(), 7).works()[RESIDENT]()
    other = inference.Batch(bench(changed(seed=1)), 7).works()[RESIDENT]()
    assert torch.equal(again, logits[RESIDENT]) and not torch.allclose(other, again)


def test_repeats_take_turns_and_warm_ups_do_not_count():
    calls = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    found = bench().in_turns(works, deadline=0.0, one_by_one=True)
    assert "".join(calls) == "ab" * inference.WARM_UPS + "abbaab"
    assert {name: len(seconds) for name, seconds in found.items()} == dict.fromkeys(
        "ab", inference.MIN_REPEATS
    )
    later = time.monotonic() + 60
    assert len(bench().in_turns(works, later, one_by_one=True)["a"]) == inference.MAX_SINGLE
    assert len(bench().in_turns(works, later)["a"]) == inference.MAX_REPEATS


def test_short_passes_are_repeated_within_a_repeat(monkeypatch):
    monkeypatch.setattr(inference, "REPEAT_SECONDS", 0.02)
    calls = []
    found = bench().in_turns({"a": lambda: calls.append(time.sleep(0.004))}, deadline=0.0)
    per_repeat, rest = divmod(len(calls) - inference.WARM_UPS, inference.MIN_REPEATS)
    assert rest == 0 and per_repeat <= 5
    assert all(0.004 <= seconds for seconds in found["a"])


# --------------------------------------------------------------------------- what is skipped


def slow(monkeypatch, seconds_an_image: float):
    """Let a pass take so long for each image."""

    def works(batch):
        return {way: lambda: time.sleep(seconds_an_image * len(batch.resident)) for way in WAYS}

    monkeypatch.setattr(inference.Batch, "works", works)


def test_a_batch_that_would_take_too_long_is_skipped_and_said_so(monkeypatch):
    slow(monkeypatch, 0.005)
    start = time.monotonic()
    done = measure(changed(batch_sizes=(1, 2, 1000, 2000), seconds=1.2))
    assert time.monotonic() - start < 4
    late = inference.TOO_SLOW
    assert outcomes(done) == {1: inference.MEASURED, 2: inference.MEASURED, 1000: late, 2000: late}
    assert all("seconds" not in entry for entry in done.history["batches"][2:])


def test_the_first_batch_is_measured_however_slow(monkeypatch):
    slow(monkeypatch, 0.02)
    done = measure(changed(batch_sizes=(2, 4), seconds=0.001))
    assert outcomes(done) == {2: inference.MEASURED, 4: inference.TOO_SLOW}
    assert len(done.history["latency"]) == inference.MIN_REPEATS
    assert done.metrics["images_per_second_resident"] == pytest.approx(50, rel=0.2)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
@pytest.mark.parametrize("limit", [4, 0])
def test_running_out_of_memory_is_recorded(monkeypatch, error, limit):
    real = inference.Bench._one_pass

    def one_pass(self, images):
        if len(images) > limit:
            raise error
        return real(self, images)

    monkeypatch.setattr(inference.Bench, "_one_pass", one_pass)
    done = measure(changed(batch_sizes=(1, 4, 16, 64)))
    gone = [size for size in (1, 4, 16, 64) if size > limit]
    assert [size for size, outcome in outcomes(done).items() if outcome == inference.NO_MEMORY] == gone
    assert ("images_per_second_resident" in done.metrics) == (limit > 0)
    assert ("peak_memory_bytes" in done.metrics) == (limit > 0) and done.metrics["latency_s"] > 0


def test_another_error_is_not_taken_for_it(monkeypatch):
    def one_pass(self, images):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(inference.Bench, "_one_pass", one_pass)
    with pytest.raises(RuntimeError, match="shapes"):
        measure(TINY)


def test_a_batch_larger_than_free_memory_is_not_tried(monkeypatch):
    one = bench()
    free = one._one_pass(inference.Batch(one, 16).resident)["peak_memory_bytes"] - one.weight_bytes
    monkeypatch.setattr(machine, "free_memory", lambda device: free)
    done = measure(changed(batch_sizes=(1, 8, 64)))
    assert outcomes(done) == {1: inference.MEASURED, 8: inference.MEASURED, 64: inference.TOO_LARGE}


def test_a_stop_is_heard_between_repeats():
    stop = StopRequest()
    stop.signaled = True
    with pytest.raises(Interrupted, match="stopped while timing B-1/Wi-16"):
        measure(TINY, stop=stop)


def test_what_cannot_be_built_is_one_line():
    with pytest.raises(MlplibError, match="patches of 8 pixels"):
        measure(changed(model=ModelSpec.parse("vit-b/8"), image_size=12))


# --------------------------------------------------------------------------- memory of a pass


def counted(network, images):
    with torch.inference_mode(), PassCounter(network, images) as counter:
        network(images)
    return counter


def test_a_linear_map_moves_its_weights_input_and_output():
    network, images = nn.Linear(100, 50, bias=False), torch.zeros(10, 100)
    counter = counted(network, images)
    everything = 4 * (100 * 50 + 10 * 100 + 10 * 50)
    assert counter.traffic_bytes == everything and counter.peak_bytes == everything


def test_freed_activations_make_room_for_later_ones():
    network, images = nn.Sequential(*(nn.GELU() for _ in range(5))), torch.zeros(1000)
    counter = counted(network, images)
    # Its input, and at any time one activation being read and one being written.
    assert counter.peak_bytes == 3 * 4000
    assert counter.traffic_bytes == 5 * 2 * 4000


def test_another_shape_of_a_tensor_is_no_traffic_but_writing_in_place_is():
    class Network(nn.Module):
        def forward(self, images):
            return images.flatten(1).view(-1, 2).t()

    assert counted(Network(), torch.zeros(4, 5, 2)).traffic_bytes == 0
    counter = counted(nn.ReLU(inplace=True), torch.zeros(1000))
    assert counter.peak_bytes == 4000 and counter.traffic_bytes == 2 * 4000


def test_bf16_moves_half_as_much():
    gelu.by_table.cache_clear()  # else an earlier test may have tried already whether tables are faster
    one, half = (bench(changed(precision=precision)) for precision in ("fp32", "bf16"))
    whole, small = (b._one_pass(inference.Batch(b, 16).resident) for b in (one, half))
    assert small["traffic_bytes"] == pytest.approx(whole["traffic_bytes"] / 2, rel=0.1)
    assert one.weight_bytes == 2 * half.weight_bytes < whole["peak_memory_bytes"]


# --------------------------------------------------------------------------- records and plans


def test_a_record_reads_no_data_and_is_found_again(tmp_path):
    store = RunStore(tmp_path)
    assert planning.Planner(store, CPU).plan([TINY]).seconds == planning.OVERHEAD_SECONDS + TINY.seconds
    made = Executor(store, device=CPU).record(TINY)
    assert made.data == {} and made.status == "completed"
    assert made.environment["device_type"] == "cpu" and made.environment["precision"] == "fp32"
    assert made.environment["torchvision"]
    assert Executor(store, device=CPU).record(TINY) == made == store.find(TINY)
    assert Record.from_json(made.to_json()) == made
    assert planning.Planner(store, CPU).plan([TINY]).seconds == 0
    assert TINY.data_name() is None and TINY.needs() == () and TINY.slug() == "timing-b1wi16-8px-s0"


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ((), "a growing list of sizes"),
        ((0,), "at least 1"),
        ((4, 1), "a growing list of sizes"),
        ((1, 1), "a growing list of sizes"),
        ((1.5,), "tuple[int, ...]"),
        ((True,), "tuple[int, ...]"),
        (("8",), "tuple[int, ...]"),
    ],
    ids=repr,
)
def test_batch_sizes_have_to_grow(sizes, why):
    line = f"TimingSpec.batch_sizes must be {why}, not {sizes!r}"
    with pytest.raises(MlplibError, match=f"^{re.escape(line)}$"):
        changed(batch_sizes=sizes)


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_time_box_has_a_size(seconds):
    with pytest.raises(MlplibError, match=r"TimingSpec\.seconds must be above 0"):
        changed(seconds=seconds)


def test_the_memory_of_a_pass_on_a_gpu_is_that_of_the_pass(monkeypatch):
    one = bench()
    images = inference.Batch(one, 4).resident
    one.device, held = torch.device("cuda"), 10**9
    seen = iter((held, held + 4096))
    monkeypatch.setattr(machine, "reset_peak_memory", lambda device: None)
    monkeypatch.setattr(machine, "peak_memory", lambda device: next(seen))
    found = one._one_pass(images)["peak_memory_bytes"]
    assert found == one.weight_bytes + images.nbytes + 4096
