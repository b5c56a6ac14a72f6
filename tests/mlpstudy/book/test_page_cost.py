"""What the study cost: sums, energy and sharing, on records made by hand."""

import dataclasses
import json
import re

import pytest
from small_runs import leave, record, small
from typer.testing import CliRunner

from mlplib.specs import FilterSpec
from mlplib.store import RunStore
from mlpstudy.book.page_cost import (
    POWER,
    arithmetic,
    energy,
    open_compute,
    power,
    training_rate,
    watt_hours,
)
from mlpstudy.cli import app
from mlpstudy.evidence.merge import publish
from mlpstudy.evidence.records import every_published
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.planning import sharing, training_flops, upstream_first, users, with_upstream
from mlpstudy.profiles import PROFILES
from mlpstudy.words import duration


def made(spec=None, seconds=3600.0, device="NVIDIA H200", macs=10**12, threads=16, **environment):
    """A record with a cost."""
    made_by_hand = record(spec or small())
    return dataclasses.replace(
        made_by_hand,
        compute=made_by_hand.compute | {"seconds": seconds, "training_macs": macs} if seconds else {},
        environment={
            "device": device,
            "cpu_threads": threads,
            "python": "3.11",
            "torch": "2.9",
            **environment,
        },
    )


# --------------------------------------------------------------------------- energy


@pytest.mark.parametrize(
    "device, watts",
    [
        ("NVIDIA H200", 700),
        ("NVIDIA H100 PCIe", 350),
        ("NVIDIA H100 80GB HBM3", 700),
        ("NVIDIA RTX A5000", 230),
        ("Tesla T4", 70),
        ("AMD EPYC (2 threads)", 360 / 96),
        ("AMD EPYC 9654 96-Core Processor (2 threads)", 360 / 96),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce GTX 970", None),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz (2 threads)", None),
        ("", None),
    ],
)
def test_the_power_of_a_device_is_assumed_or_unknown(device, watts):
    found = power(made(device=device))
    assert (found.watts if found else None) == watts


def test_every_assumption_has_its_source():
    for each in POWER:
        assert each.watts > 0 and each.each in ("GPU", "thread") and each.source
        assert each.url.startswith("https://"), each.device
    starts = [each.device for each in POWER]
    assert not [a for i, a in enumerate(starts) for b in starts[:i] if a.startswith(b)], "never reached"


def test_energy_is_power_times_time_and_threads_of_a_cpu_summed_over_runs():
    assert energy([made(seconds=1800)]) == pytest.approx(350)
    assert energy([made(device="AMD EPYC (4 threads)", threads=4)]) == pytest.approx(15)
    assert energy([made(), made(seconds=1800)]) == pytest.approx(1050)
    assert energy([made(), made(device="a test")]) is None, "an unknown device is not estimated"
    assert energy([made(), made(device="a test", seconds=None)]) == pytest.approx(700)
    assert energy([]) == energy([made(seconds=None)]) == 0


@pytest.mark.parametrize(
    "value, text", [(0, "–"), (1.25e15, "1.2 × 10^15"), (9.97e14, "1.0 × 10^15"), (3, "3.0 × 10^0")]
)
def test_arithmetic_is_readable(value, text):
    assert re.sub("<sup>(.*?)</sup>|<.*?>", lambda m: f"^{m[1]}" if m[1] else "", arithmetic(value)) == text


WATT_HOURS = {
    0.0: "–",
    0.61: "0.61 Wh",
    21.4: "21 Wh",
    999.4: "999 Wh",
    2345: "2.3 kWh",
    None: "not estimated",
}


@pytest.mark.parametrize("value, text", WATT_HOURS.items())
def test_energies_are_readable(value, text):
    assert watt_hours(value) == text


# --------------------------------------------------------------------------- sharing


def test_users_are_counted_once_each():
    found = users({"a": ["x", "y", "x"], "b": ["y", "z"], "c": ["y"]})
    assert found == {"x": ("a",), "y": ("a", "b", "c"), "z": ("b",)}


def test_sharing_saves_every_further_training():
    found = sharing({"a": ["x", "y"], "b": ["y", "z"], "c": ["y", "z"]}, {"x": 1.0, "y": 10.0, "z": 100.0})
    assert found == {("a", "b", "c"): (1, 20.0), ("b", "c"): (1, 100.0)}
    assert sharing({}, {}) == sharing({"a": []}, {}) == {}


# --------------------------------------------------------------------------- the page


def fill(store, name, profile="laptop", seeds=(0,), **more):
    """Every run of an experiment and what it needs, an hour each."""
    specs = upstream_first(experiment(name).runs(PROFILES[profile], seeds))
    leave(store, (made(spec, **more) for spec in specs if store.find(spec) is None))


def there(store):
    """Experiment to the ids of its runs in a store, and of those that they are made from."""
    needed = {n: with_upstream(experiment(n).runs(PROFILES["laptop"], (0,))) for n in EXPERIMENTS}
    found = {n: [id for id, spec in specs.items() if store.find(spec)] for n, specs in needed.items()}
    return {name: ids for name, ids in found.items() if ids}


def page(tmp_path, **given):
    (tmp_path / "results").mkdir(exist_ok=True)
    return open_compute(
        runs_dir=str(tmp_path / "runs"), results_dir=str(tmp_path / "results"), device="cpu", **given
    )


def rows_of(text):
    """Every row of the tables in ``text``: its cells without tags."""
    found = re.findall(r"<tr>(.*?)</tr>", text, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in found]
    return [[re.sub("<.*?>", "", cell).strip() for cell in row] for row in cells]


def test_without_any_record_the_page_says_so(tmp_path):
    for profile in PROFILES:
        empty = page(tmp_path, profile=profile)
        for text in (empty.chapters(), empty.kinds(), empty.shared()):
            assert "nothing is published or finished" in text
        assert "700 W per GPU" in empty.power() and profile in empty.banner()
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def two_chapters(tmp_path):
    """A folder in which two chapters that share runs are finished, and the chapters' run ids."""
    store = RunStore(tmp_path / "runs")
    for name in ("from-scratch", "filters"):
        fill(store, name)
    return {name: set(ids) for name, ids in there(store).items()}


def cost_rows(text):
    """The costs by what the rows are about, without whose they are."""
    return {row[-8]: row[-7:] for row in rows_of(str(text)) if len(row) >= 8}


def test_chapters_count_what_their_runs_were_made_from_and_the_sum_counts_it_once(tmp_path, two_chapters):
    ids, rows = two_chapters, cost_rows(page(tmp_path).chapters())
    together = len(ids["from-scratch"] | ids["filters"])
    numbers = {experiment(name).TITLE: len(ids[name]) for name in ("from-scratch", "filters")}
    for title, number in (numbers | {"all, shared runs counted once": together}).items():
        assert rows[title][:2] == [str(number), duration(3600 * number)], title
        assert rows[title][-2:] == ["NVIDIA H200", "Python 3.11, torch 2.9"]
    assert together < sum(numbers.values())
    assert rows["all, shared runs counted once"][4] == watt_hours(700 * together)


def test_kinds_count_every_run_once(tmp_path, two_chapters):
    runs = {}
    for name in ("from-scratch", "filters"):
        runs |= with_upstream(experiment(name).runs(PROFILES["laptop"], (0,)))
    looks = sum(isinstance(spec, FilterSpec) for spec in runs.values())
    rows = cost_rows(page(tmp_path).kinds())
    assert rows["images of filters"][0] == str(looks)
    assert rows["training from a random start"][0] == str(len(runs) - looks)


def test_the_study_and_this_execution_stand_side_by_side(tmp_path):
    gpu = RunStore(tmp_path / "gpu")
    fill(gpu, "filters", "gpu", (0, 1), device="a device nobody knows")
    publish("filters", "gpu", (0, 1), gpu, tmp_path / "results")
    fill(RunStore(tmp_path / "runs"), "from-scratch")
    text = str(page(tmp_path).chapters())
    assert "this study, gpu" in text and "this execution, laptop" in text and "this study, laptop" not in text
    assert "not estimated" in text and "NVIDIA H200" in text
    shared = rows_of(str(page(tmp_path).shared()))
    needed = len(with_upstream(experiment("filters").runs(PROFILES["gpu"], (0, 1))))
    assert ["this study, gpu", str(needed)] in [row[:2] for row in shared]


def test_the_page_shows_what_sharing_saved(tmp_path, two_chapters):
    ids = two_chapters
    different = set().union(*ids.values())
    expected = sharing(ids, dict.fromkeys(different, 3600.0))
    assert expected and set(ids) >= {"from-scratch", "filters"}
    rows = rows_of(str(page(tmp_path).shared()))
    shared, seconds = map(sum, zip(*expected.values(), strict=True))
    numbers = len(different), sum(map(len, ids.values())), shared
    assert ["this execution, laptop", *map(str, numbers), duration(seconds)] in rows
    for names, (number, saved) in expected.items():
        titles = ", ".join(experiment(name).TITLE for name in names)
        assert any(row[-3:] == [titles, str(number), duration(saved)] for row in rows), names


# --------------------------------------------------------------------------- what is still to come


def coming(tmp_path):
    """The rows of the table by chapter, and the page's line below it."""
    text = str(page(tmp_path).still_to_come())
    return {row[0]: row[1:] for row in rows_of(text)}, re.sub("<.*?>", "", text.rpartition("</table>")[2])


def of_gpu(name):
    chosen = PROFILES["gpu"]
    return with_upstream(experiment(name).runs(chosen, chosen.seeds)).values()


def test_the_rate_is_that_of_all_runs_that_trained_together_on_the_main_device():
    records = [made(seconds=10, macs=100), made(seconds=None), made(FilterSpec(small(), at="final"), macs=0)]
    assert training_rate(records) == (20.0, "NVIDIA H200")
    records.append(made(seconds=30, macs=1100))
    assert training_rate(records) == (2 * 1200 / 40, "NVIDIA H200")
    slow = [made(seconds=10_000, macs=60 * k, device=f"AMD EPYC ({k} threads)") for k in (2, 4)]
    assert training_rate([*slow, *records]) == (2 * 1200 / 40, "NVIDIA H200"), "a GPU is not slowed by a CPU"
    assert training_rate(slow) == (2 * 360 / 20_000, "AMD EPYC")
    assert training_rate(records[1:3]) == (None, "")


def test_without_large_runs_or_data_the_operations_are_told_and_no_time(tmp_path, monkeypatch):
    for variable in ("MLPLIB_CACHE", "MLPLIB_DATA"):
        monkeypatch.setenv(variable, str(tmp_path / "no data"))
    fill(RunStore(tmp_path / "runs"), "from-scratch")  # own runs of another profile change nothing
    rows, line = coming(tmp_path)
    flops = sum(training_flops(spec) for spec in dict.fromkeys(of_gpu("label-smoothing")))
    shown = re.sub("<.*?>", "", arithmetic(flops))
    number = len(of_gpu("label-smoothing"))
    assert rows[experiment("label-smoothing").TITLE] == [f"0 of {number} runs", shown, "no rate yet"]
    assert rows[experiment("efficiency").TITLE][1:] == ["–", "–"], "timings train nothing"
    assert list(rows)[1:] == [*(experiment(n).TITLE for n in EXPERIMENTS), "all, shared runs counted once"]
    assert "Nothing of it is published yet" in line and not (tmp_path / "no data").exists()


def test_what_is_published_is_counted_in_every_chapter_that_needs_it_and_gives_the_rate(tmp_path):
    gpu = RunStore(tmp_path / "gpu")
    fill(gpu, "label-smoothing", "gpu", (0,), seconds=10.0, macs=10**15)
    publish("label-smoothing", "gpu", (0,), gpu, tmp_path / "results")
    (found,) = every_published("label-smoothing", tmp_path / "results")
    there = {record.spec for record in found.records}
    rows, line = coming(tmp_path)
    for name in ("label-smoothing", "normalization", "filters"):
        specs = of_gpu(name)
        missing = [spec for spec in specs if spec not in there]
        seconds = sum(map(training_flops, missing)) / 2e14
        found = rows[experiment(name).TITLE]
        assert found[0] == f"{len(specs) - len(missing)} of {len(specs)} runs"
        assert found[-1] == duration(seconds), name
    assert rows[experiment("label-smoothing").TITLE][0].startswith("6 of 18")
    assert rows["all, shared runs counted once"][0].startswith("6 of ")
    assert "the 2.0 × 1014 FLOPs per second" in line and "NVIDIA H200" in line


# --------------------------------------------------------------------------- mlplib plan


def plan(*words):
    done = CliRunner().invoke(app, ["plan", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_plans_need_no_data_and_count_shared_runs_once(profile, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "no data"))
    monkeypatch.setenv("MLPLIB_DATA", str(tmp_path / "no data"))
    found = json.loads(
        plan("--profile", profile, "--json", "--runs", str(tmp_path / "runs"), "--device", "cpu")
    )
    needed = {
        name: with_upstream(experiment(name).runs(PROFILES[profile], PROFILES[profile].seeds))
        for name in EXPERIMENTS
    }
    assert found["profile"] == profile and list(found["experiments"]) == list(EXPERIMENTS)
    every = {id: spec for specs in needed.values() for id, spec in specs.items()}
    assert {run["id"] for run in found["runs"]} == set(every) and len(found["runs"]) == len(every)
    for run in found["runs"]:
        assert run["experiments"] == [name for name in EXPERIMENTS if run["id"] in needed[name]]
        assert run["missing"] and run["training_flops"] == training_flops(every[run["id"]])
    for name, sums in found["experiments"].items():
        assert (sums["runs"], sums["done"]) == (len(needed[name]), 0)
        assert sums["shared"] == sum(
            len(r["experiments"]) > 1 for r in found["runs"] if name in r["experiments"]
        )
    total = found["all"]
    assert total["runs"] == len(every) < sum(map(len, needed.values()))
    assert total["training_flops"] == pytest.approx(sum(run["training_flops"] for run in found["runs"]))
    assert (
        0 < total["estimated_seconds"] <= sum(s["estimated_seconds"] for s in found["experiments"].values())
    )
    assert not (tmp_path / "no data" / "data").exists() and not (tmp_path / "runs").exists()


def test_the_plan_says_what_is_shared_and_what_is_done(tmp_path):
    store = RunStore(tmp_path / "runs")
    fill(store, "from-scratch", "smoke", PROFILES["smoke"].seeds)
    words = ("from-scratch", "filters", "--profile", "smoke", "--device", "cpu", "--runs", str(store.root))
    text, found = plan(*words), json.loads(plan(*words, "--json"))
    both = sum(len(run["experiments"]) > 1 for run in found["runs"])
    alone = sum(sums["runs"] for sums in found["experiments"].values())
    assert both > 0 and alone == found["all"]["runs"] + both
    assert f"{found['all']['runs']} different runs, {both} of them needed by several experiments" in text
    assert f"if none were shared, there would be {alone}." in text
    assert found["experiments"]["from-scratch"]["done"] == found["experiments"]["from-scratch"]["runs"]
    assert found["all"]["done"] == sum(not run["missing"] for run in found["runs"])


# --------------------------------------------------------------------------- mlplib results publish


def publish_all(store, results, *words):
    return CliRunner().invoke(
        app, ["results", "publish", *words, "--profile", "laptop", "--seeds", "0", "--runs", str(store.root),
              "--results", str(results)],
    )  # fmt: skip


def test_publishing_everything_goes_on_past_what_is_not_finished(tmp_path):
    store, results = RunStore(tmp_path / "runs"), tmp_path / "results"
    fill(store, "from-scratch")
    fill(store, "filters")
    done = publish_all(store, results)
    assert all(list(every_published(name, results)) for name in ("filters", "from-scratch"))
    others = [name for name in EXPERIMENTS if name not in ("from-scratch", "filters")]
    assert done.exit_code != 0 and f"{len(others)} of {len(EXPERIMENTS)} experiments" in str(done.exception)
    assert str(done.exception).endswith(", ".join(others))
    assert publish_all(store, results, "filters", "from-scratch").exit_code == 0
    assert "are not finished" in str(publish_all(store, results, others[0]).exception)
