"""The timing harness: rounds in turns, quartiles, and rates of the machine, by a simulated clock."""

import datetime
import itertools
import json
import math
import time
from types import SimpleNamespace

import pytest
import torch

from mlplib import machine, timing
from mlplib.errors import MlplibError

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when ``clock.sleep(seconds)`` is called."""

    class Clock:
        now = 0.0

        def sleep(self, seconds):
            self.now += seconds

    held = Clock()
    for name in ("perf_counter", "monotonic"):
        monkeypatch.setattr(timing.time, name, lambda: held.now)
    return held


def test_rounds_take_turns_and_every_second_one_runs_backwards():
    order, counter = [], itertools.count()

    def timer(name):
        order.append(name)
        return next(counter)

    after = []
    timers = {name: lambda name=name: timer(name) for name in "ab"}
    found = timing.take_turns(timers, 3, after_each=lambda: after.append(order[-1]))
    assert "".join(order) == "abbaab" and after == order
    assert found == {"a": [0, 3, 4], "b": [1, 2, 5]}


def test_rounds_end_at_the_deadline_but_not_before_the_least(clock):
    timers = {"a": lambda: clock.sleep(1.0)}
    assert len(timing.take_turns(timers, 9, deadline=4.5)["a"]) == 5
    assert len(timing.take_turns(timers, 9, deadline=0.0, least=3)["a"]) == 3
    assert len(timing.take_turns(timers, 2, deadline=math.inf)["a"]) == 2
    assert timing.take_turns({}, 2) == {}


def test_a_call_takes_its_share_of_the_seconds(clock):
    run = timing.repeat(lambda: clock.sleep(0.123456789))
    assert timing.seconds_per_call(run, 8, CPU) == 0.12346, "five digits"
    assert clock.now == pytest.approx(8 * 0.123456789)


def test_the_clock_is_a_real_one():
    seconds = timing.seconds_per_call(timing.repeat(lambda: time.sleep(0.002)), 2, CPU)
    assert 0.002 <= seconds < 2


@pytest.mark.parametrize(
    ("one", "bounds", "expected"),
    [(0.01, (1, 99), 10), (0.03, (1, 99), 4), (0.01, (1, 4), 4), (9.0, (6, 9), 6), (0, (1, 7), 7)],
)
def test_as_many_calls_as_fit_within_bounds(one, bounds, expected):
    assert timing.calls_in(0.1, one, *bounds) == expected


def test_a_summary_is_the_median_and_the_inclusive_quartiles():
    assert timing.summary([2.0]) == {"value": 2.0, "q25": 2.0, "q75": 2.0}
    assert timing.summary([4, 1, 3, 2]) == {"value": 2.5, "q25": 1.75, "q75": 3.25}


def test_rates_count_bytes_and_operations_by_the_second(monkeypatch, tmp_path):
    ticks = itertools.count()
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path))  # these rates are not the machine's
    monkeypatch.setattr(timing, "copy_size", lambda device: 2**20)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))  # every call takes a second
    assert timing.transfer_rate.__wrapped__(CPU) == 2**20
    assert timing.memory_rate.__wrapped__(CPU) == 2 * 2**20, "a copy reads and writes"
    assert timing._matmul_rate.__wrapped__(CPU, "fp32", 64, "") == 2 * 64**3


def test_a_busy_machine_does_not_lower_its_rates(monkeypatch, tmp_path):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "cache"))
    slowed = itertools.cycle((9.0, 9.0, 2.0, 9.0, 9.0))  # once in five, nobody else computes
    monkeypatch.setattr(timing, "seconds_per_call", lambda run, calls, device: next(slowed))
    assert timing._matmul_rate.__wrapped__(CPU, "fp32", 16, "") == 2 * 16**3 / 2.0


def test_emulated_arithmetic_is_measured_on_smaller_matrices(monkeypatch, tmp_path):
    """A product of 2048 x 2048 in bf16 takes minutes on a CPU that cannot multiply in bf16."""
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "cache"))
    sides, product = [], timing.square_product
    monkeypatch.setattr(timing, "square_product", lambda *a: sides.append(a[-1]) or product(*a[:-1], 2))
    monkeypatch.setattr(timing, "seconds_per_call", lambda run, calls, device: (sides[-1] / 256) ** 3 * 0.1)
    assert timing._matmul_rate.__wrapped__(CPU, "fp32", 2048, "") == pytest.approx(2 * 256**3 / 0.1)
    assert max(sides) == 512, "a product that takes longer than 0.2 s is large enough"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The rates that this process measured instead of reading them, in a cache folder of its own."""
    done = []

    def seconds(call, device, repeats):
        done.append(len(done) + 1)
        return 1 / done[-1]

    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timing, "_least_seconds", seconds)
    return done


def rate(precision="fp32"):
    """As another process would ask for it, which has nothing in memory."""
    return timing._matmul_rate.__wrapped__(CPU, precision, 16, machine.device_name(CPU))


def test_more_threads_have_a_rate_of_their_own_in_one_process(measured):
    found = []
    for count in (1, 2, 1):
        with machine.cpu_threads(count):
            found.append(timing.matmul_rate(CPU, "fp32", 17))
    assert found == [2 * 17**3, 2 * 2 * 17**3, 2 * 17**3]


def test_a_machine_measures_its_rate_once_a_day(measured, monkeypatch):
    first = rate()
    assert [rate(), rate()] == [first, first] and len(measured) == 1
    assert rate("bf16") == 2 * first and len(measured) == 2, "another precision has another rate"
    with machine.cpu_threads(torch.get_num_threads() + 1):
        assert rate() == 3 * first, "and so have more threads"
    monkeypatch.setattr(timing.platform, "node", lambda: "another machine with this cache folder")
    assert rate() == 4 * first and len(measured) == 4

    tomorrow = datetime.date.today() + datetime.timedelta(days=1)
    monkeypatch.setattr(timing.datetime, "date", SimpleNamespace(today=lambda: tomorrow))
    assert rate() == 5 * first and rate() == 5 * first


DAMAGED = (
    "",
    "[",
    "[]",
    "null",
    "{}",
    '{"day": 3}',
    "[" * 100_000,
    "\udcff",
    *(
        json.dumps({"day": datetime.date.today().isoformat(), "flops_per_second": kept})
        for kept in ({}, [], 3, {"x": "fast"})
    ),
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_of_rates_is_measured_again(measured, tmp_path, text):
    rate()
    path = tmp_path / "cache" / timing.RATES
    path.write_text(text, errors="surrogateescape")
    assert rate() == rate() == 2 * 2 * 16**3


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_no_machine_has_such_a_rate(measured, tmp_path, value):
    rate()
    path = tmp_path / "cache" / timing.RATES
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"flops_per_second": dict.fromkeys(kept["flops_per_second"], value)}))
    assert rate() == 2 * 2 * 16**3


def test_a_rate_that_cannot_be_kept_is_not_measured_twice(measured, monkeypatch):
    def full(path):
        raise MlplibError("the disk is full")

    monkeypatch.setattr(timing.files, "replacing", full)
    assert [rate(), rate()] == [2 * 16**3, 4 * 16**3] and len(measured) == 2


def test_who_cannot_keep_the_rate_measures_it(measured, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "file"))
    assert [rate(), rate()] == [2 * 16**3, 4 * 16**3]
