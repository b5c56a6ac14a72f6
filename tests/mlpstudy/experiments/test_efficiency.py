"""Table 9: what is timed, what the table says of it, and claim C18 in all its outcomes."""

import dataclasses

import pytest
from small_runs import record

from mlplib.specs import FAMILIES
from mlpstudy import stats
from mlpstudy.book.tables import facts, number
from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import efficiency
from mlpstudy.plots import speed
from mlpstudy.profiles import PROFILES, profile

C18 = efficiency.CLAIMS[0]
SEEDS = (0, 1, 2)
WIGGLE = {0: 1.0, 1: 1.02, 2: 0.98}
"""What a seed multiplies times by, so that there is a spread between seeds but no doubt about signs."""


def is_mlp(spec):
    return spec.model.family in FAMILIES.values()


def made(budget="laptop", seeds=SEEDS, device="cuda", *, slower=20.0, macs=30.0, gain=7.0, name="a GPU"):
    """Timings in which other networks take ``slower`` times the latency and ``macs`` times the MACs of the
    MLPs, whose throughput without the float32 copy is ``gain`` times that with it.

    ``slower`` may be a dictionary by model name.
    """
    found = []
    for spec in efficiency.runs(profile(budget), seeds):
        ratio = slower.get(spec.model.name, 20.0) if isinstance(slower, dict) else slower
        latency = 0.001 if is_mlp(spec) else 0.001 * ratio * WIGGLE[spec.seed]
        one = record(spec)
        metrics = one.metrics | {
            "parameters": spec.model.depth * 10**7,
            "forward_macs": 10**8 if is_mlp(spec) else round(macs * 10**8),
            "latency_s": latency,
        }
        batches = [
            entry
            | {
                "seconds": {
                    "resident": [0.001 * entry["batch_size"]] * 3,
                    "uint8": [0.002 * entry["batch_size"]] * 3,
                    "float32": [0.001 * gain * WIGGLE[spec.seed] * entry["batch_size"]] * 3,
                }
            }
            for entry in one.history["batches"]
        ]
        found.append(
            dataclasses.replace(
                one,
                metrics=metrics,
                history={"latency": [latency] * 5, "batches": batches},
                environment={"device": name, "device_type": device, "precision": "bf16"},
            )
        )
    return found


# --------------------------------------------------------------------------- runs


@pytest.mark.parametrize("budget", ["laptop", "gpu", "paper"])
def test_the_networks_of_table_9_are_timed_on_images_of_64_pixels(budget):
    specs = efficiency.runs(profile(budget), (0,))
    names = {efficiency.title(spec.model) for spec in specs}
    assert names == {"B-12/Wi-1024", "B-6/Wi-1024", "ResNet-152", "ViT-B/4", "ViT-B/8", "Mixer-B/4"}
    assert {(s.image_size, s.classes) for s in specs} == {(64, 11_230)}
    assert {s.batch_sizes[0] for s in specs} == {1}


def test_every_profile_has_a_budget_and_the_small_ones_are_short():
    assert set(efficiency.BUDGETS) == {chosen.key for chosen in PROFILES.values()}
    for name, seconds in (("smoke", 5), ("laptop", 50)):
        chosen = profile(name)
        assert sum(spec.seconds for spec in efficiency.runs(chosen, chosen.seeds)) <= seconds


def test_networks_take_turns():
    order = [(s.seed, s.model.name) for s in efficiency.runs(profile("laptop"), (0, 1))]
    assert [seed for seed, _ in order] == [0] * 6 + [1] * 6
    assert [name for _, name in order[:6]] == [name for _, name in order[6:]]


# --------------------------------------------------------------------------- table and figures


def test_the_table_names_device_precision_and_spread():
    cells = {(c.row, c.column): c for c in efficiency.summary(made(seeds=(0,)), profile("laptop"))}
    latency = cells["ViT-B/8", "latency"]
    assert latency.estimate.mean == pytest.approx(20.0) and latency.unit == "ms"
    assert latency.setting == "a GPU, bf16; middle half of 5 repeats 20 to 20 ms"
    assert cells["ViT-B/8", "FLOPs"].estimate.mean == pytest.approx(2 * 30 * 100), "MFLOP, two a multiply-add"
    assert cells["ViT-B/8", "FLOPs"].setting == "11,230 classes, 64 x 64"
    assert "a GPU, bf16; batches of 512" in cells["B-6/Wi-1024", "throughput"].setting
    assert {c.item for c in cells.values()} == {"Table 9", "C18"} and len(cells) == 6 * 7


def test_what_is_counted_has_no_interval_and_what_is_timed_has():
    for cell in efficiency.summary(made(), profile("laptop")):
        counted = cell.column in ("parameters", "FLOPs")
        assert (cell.estimate.low is None) == counted and cell.estimate.n == 3


def test_timings_of_two_devices_are_told_apart():
    mixed = [*made(seeds=(0,), name="one"), *made(seeds=(1,), name="other")]
    cells = efficiency.summary(mixed, profile("laptop"))
    assert all("one, bf16; other, bf16" in c.setting for c in cells if c.column in ("latency", "throughput"))
    found = C18.judge(mixed)
    assert found.verdict == NOT_TESTED and "different devices (one, other)" in found.note


def test_what_was_not_measured_is_left_out():
    records = made(seeds=(0,))
    for way in ("resident", "uint8", "float32"):
        del records[0].metrics[f"images_per_second_{way}"], records[0].metrics[f"best_batch_{way}"]
    records[0].history["batches"][:] = [{"batch_size": 1, "outcome": "out of memory"}]
    rows = [c.row for c in efficiency.summary(records, profile("laptop")) if c.column == "throughput"]
    assert len(rows) == 5 and "B-12/Wi-1024" not in rows
    assert "B-12/Wi-1024" not in set(efficiency.throughputs(records)["network"])
    assert "B-12/Wi-1024" not in set(efficiency.roofs(records)["network"])
    assert C18.judge(records).verdict == PARTLY, "the transfer was not measured"


def test_rooflines_are_flops_by_bytes():
    frame = efficiency.roofs(made(seeds=(0,)))
    memory, copy = (frame[frame["roof"] == roof].iloc[0] for roof in ("memory", "copy"))
    size = memory["batch_size"]
    assert memory["flops_per_byte"] == pytest.approx(2e8 * size / (10**6 + 2000 * size))
    assert copy["flops_per_byte"] == pytest.approx(2e8 / (4 * 3 * 64 * 64))
    assert memory["flops_per_second"] == pytest.approx(2e8 * 1000)
    assert (frame["peak_flops_per_second"] == 1e9).all() and (frame["bytes_per_second"] == 1e9).all()


def test_throughput_is_one_row_a_batch_size_and_way():
    frame = efficiency.throughputs(made(seeds=(0,)))
    assert len(frame) == 6 * 6 * 3 and set(frame["images"]) == set(efficiency.WAY_NAMES.values())
    mlp = frame[(frame["network"] == "B-12/Wi-1024") & (frame["images"] == "copied as uint8")]
    assert mlp["images_per_second"].tolist() == pytest.approx([500.0] * 6)


@pytest.mark.parametrize("name", efficiency.FIGURES)
@pytest.mark.parametrize("seeds", [(0,), SEEDS])
def test_figures_show_every_network(name, seeds):
    figure = efficiency.FIGURES[name]
    drawn = figure.draw(figure.data(made(seeds=seeds)))
    assert "Mixer-B/4" in [text.get_text() for text in drawn.legends[0].get_texts()]
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in drawn.axes)
    assert all(len(axes.get_lines()) >= 6 for axes in drawn.axes)


def test_a_roof_rises_to_the_rate_of_matrix_products():
    frame = efficiency.roofs(made(seeds=(0,)))
    line = speed.rooflines(frame).axes[0].get_lines()[0]
    x, y = line.get_xdata(), line.get_ydata()
    assert y.tolist() == [min(1e9, 1e9 * each) for each in x] and x[1] == pytest.approx(1.0)


@pytest.mark.parametrize("rates", [(1.1e9, 1.9e9), (3e9, 8e9), (2e9, 4e10), (1e7, 1e12)])
def test_every_axis_has_labels(rates):
    frame = efficiency.roofs(made(seeds=(0,)))
    low, high = rates
    frame["flops_per_second"] = [low + (high - low) * i / (len(frame) - 1) for i in range(len(frame))]
    frame["peak_flops_per_second"] = high
    for axes in speed.rooflines(frame).axes:
        for axis in (axes.xaxis, axes.yaxis):
            bounds = sorted(axis.get_view_interval())
            inside = [tick for tick in axis.get_majorticklocs() if bounds[0] <= tick <= bounds[1]]
            assert len(inside) >= 2, (axis, bounds)


def test_large_numbers_have_no_decimals():
    assert number(23545.8, "images/s") == "23,546" and number(12.3456, "ms") == "12.3"
    assert number(124.84, "million") == "124.8"


def test_settings_of_timings_are_shown():
    found = facts(efficiency.runs(profile("laptop"), (0, 1)))
    assert found["timing: classes"] == "11,230" and found["timing: time box"] == "6 s"
    assert found["timing: network"].split("; ")[:3] == ["B-12/Wi-1024", "B-6/Wi-1024", "resnet152"]
    assert found["timing: seeds"] == "0; 1"


# --------------------------------------------------------------------------- the claim


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, REPRODUCED),
        (dict(gain=4.0), PARTLY),  # bound by the transfer, but less than in the paper
        (dict(gain=1.5), PARTLY),  # not bound by it
        (dict(macs=1.5), PARTLY),  # fewer FLOPs, but not far fewer
        (dict(slower=0.5), PARTLY),
        (dict(slower={"vit-b/8": 0.9}), PARTLY),  # one network is faster
        (dict(slower=1.05, macs=0.5, gain=1.5), INCONCLUSIVE),
        (dict(slower=0.5, macs=0.5, gain=1.5), CONTRADICTED),
    ],
    ids=str,
)
def test_c18_on_a_gpu(changes, expected):
    assert C18.judge(made(**changes)).verdict == expected


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, PARTLY),
        (dict(gain=1.0), PARTLY),  # it does not matter
        (dict(slower=0.5), PARTLY),
        (dict(slower=0.5, macs=1.5), INCONCLUSIVE),
    ],
    ids=str,
)
def test_c18_on_a_cpu_is_partly_at_best_and_says_why(changes, expected):
    found = C18.judge(made(device="cpu", **changes))
    assert found.verdict == expected and "transfer not tested at this scale (it needs a GPU" in found.reason()


def test_the_criterion_names_the_constants_of_the_code():
    numbers = efficiency.FAR_FEWER, efficiency.BOUND, efficiency.PAPER_TRANSFER
    assert numbers == (2, 2, 6) and "more than twice as many" in C18.criterion
    assert "above 2 for every MLP" in C18.criterion and "the paper's 6" in C18.criterion
    assert efficiency.SLOWER == 1.1 and "by a tenth at least" in C18.criterion


def test_c18_shows_every_network():
    found = C18.judge(made(slower={"vit-b/8": 3.0}))
    means = {part.name: part.effect.mean for part in found.parts}
    assert means == pytest.approx(
        {"FLOPs of the closest network": 30, "latency of ViT-B/8": 3}
        | {f"latency of {name}": 20 for name in ("ResNet-152", "ViT-B/4", "Mixer-B/4")}
        | {f"transfer, {name}": 7 for name in ("B-12/Wi-1024", "B-6/Wi-1024")}
    )
    assert {part.effect.n for part in found.parts} == {3} and "multiples of B-12/Wi-1024's" in found.note


def test_c18_from_one_seed_has_the_interval_of_its_repeats():
    records = made(seeds=(0,))
    for i, one in enumerate(records):
        one.history["latency"][:] = [one.metrics["latency_s"] * f for f in (0.8, 0.9, 1.0, 1.1, 1.2)]
        records[i] = one
    found = C18.judge(records)
    wide = found.parts[1].effect
    assert wide.low < 20.0 < wide.high and wide.source == "repeats"
    assert found.effect_text().endswith("(1 seed, interval from repeats only)")
    with stats.using(confidence=0.5):
        narrow = C18.judge(records).parts[1].effect
    assert wide.low < narrow.low < narrow.high < wide.high
    assert found == C18.judge(records), "the bootstrap draws the same every time"


def test_c18_needs_an_mlp_another_network_and_a_common_seed():
    records = made()
    mlps, others = ([r for r in records if is_mlp(r.spec) == wanted] for wanted in (True, False))
    for part in ([], mlps, others):
        assert C18.judge(part).verdict == NOT_TESTED
    apart = [r for r in mlps if r.spec.seed == 0] + [r for r in others if r.spec.seed == 1]
    assert C18.judge(apart).verdict == NOT_TESTED
