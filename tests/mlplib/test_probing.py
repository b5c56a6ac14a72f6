"""Probes, fine-tuning and test-time augmentation: against closed forms, hand cases and runs left alone."""

import dataclasses
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import dataset, noise, small

from mlplib import data, machine, probing, training
from mlplib.data.batches import open_data
from mlplib.data.shaping import resize
from mlplib.errors import Interrupted, MlplibError
from mlplib.execution import Execution
from mlplib.executor import Executor
from mlplib.models import build_model
from mlplib.progress import quiet
from mlplib.specs import (
    FULL_DA,
    AugmentSpec,
    DataSpec,
    EvaluateSpec,
    FineTuneSpec,
    ModelSpec,
    OptimizerSpec,
    ProbeSpec,
)
from mlplib.stopping import StopRequest
from mlplib.store import RunStore

CPU = torch.device("cpu")
HERE = DataSpec("shapes-16-downstream")
UPSTREAM = small(data=DataSpec("shapes-16-upstream"), epochs=2)
BAR = quiet(None, "").__enter__()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def executor(tmp_path_factory):
    """With an upstream run that is trained once for all tests."""
    made = Executor(RunStore(tmp_path_factory.mktemp("runs")), device=CPU, log=lambda line: None)
    made.record(UPSTREAM)
    return made


def blobs(width=5, count=90, spread=0.05, seed=0, shift=0.0) -> probing.Features:
    """Features around one corner for each of three classes, which a linear map tells apart."""
    random = np.random.default_rng(seed)

    def part(count):
        labels = np.arange(count) % 3
        x = np.eye(3, width)[labels] + spread * random.standard_normal((count, width)) + shift
        return torch.tensor(x, dtype=torch.float32), torch.tensor(labels)

    return probing.Features(*part(count), *part(count // 2), 3)


def probe(**changes) -> ProbeSpec:
    return ProbeSpec(**dict(data=HERE, upstream=None) | changes)


def linear(**changes) -> ProbeSpec:
    return probe(**dict(epochs=40, batch_size=30, optimizer=OptimizerSpec(lr=1e-2)) | changes)


def fine_tune(**changes) -> FineTuneSpec:
    usual = dict(upstream=UPSTREAM, data=HERE, epochs=2, batch_size=64, precision="fp32")
    return FineTuneSpec(**usual | changes)


# --------------------------------------------------------------------------- features


@pytest.mark.parametrize(
    "model",
    [
        ModelSpec.parse("B-2/Wi-16"),
        ModelSpec.parse("B-1/Wi-16", norm_position="post"),
        ModelSpec.parse("S-2/Wi-16"),
        ModelSpec.parse("S-2/Wi-16", norm="batch", official_order=True),
        ModelSpec.parse("small-cnn"),
    ],
    ids=str,
)
def test_features_are_what_the_head_reads(model):
    network = build_model(model, (8, 8, 3), 4, seed=0)
    there = open_data(noise(), DataSpec("hand"), CPU)
    found = probing.features(network, there)
    with torch.no_grad():
        logits = torch.cat([network(batch.images) for batch in there.test_batches()])
        assert torch.equal(network.linear_out(found.test), logits)
    assert found.train.shape == (60, network.linear_out.in_features) and found.train.dtype == torch.float32
    assert torch.equal(found.train_labels, there.train.labels) and found.classes == 4
    assert not network.training and found.train.requires_grad is False


def test_features_of_no_network_are_the_normalized_pixels():
    there = open_data(noise(), DataSpec("hand"), CPU)
    found = probing.features(None, there)
    assert torch.equal(found.test, torch.cat([b.images.flatten(1) for b in there.test_batches()]))


def test_features_of_one_network_are_computed_once(executor, monkeypatch):
    asked = []
    monkeypatch.setattr(probing, "features", lambda *a: asked.append(a) or blobs())
    fresh = Executor(executor.store, device=CPU)
    specs = [
        probe(upstream=UPSTREAM),
        probe(upstream=UPSTREAM, method="ridge"),
        probe(upstream=UPSTREAM, epoch=0),
        probe(upstream=UPSTREAM, epoch=0, method="ridge"),
        probe(),
    ]
    for spec in specs:
        fresh.features(spec)
    assert len(asked) == 3


# --------------------------------------------------------------------------- linear probe


def test_a_linear_probe_tells_apart_what_a_line_can():
    metrics, history = probing.linear_probe(linear(), blobs())
    assert metrics["test_top1"] == metrics["train_top1"] == metrics["test_top5"] == 1.0
    assert history["epoch"] == list(range(1, 41)) and history["train_loss"][-1] < 0.3
    assert history["train_loss"][0] > history["train_loss"][-1]


def test_a_linear_probe_follows_from_its_seed():
    found = blobs(spread=1.0)
    first, again, other = (probing.linear_probe(linear(seed=s, epochs=3), found) for s in (0, 0, 1))
    assert first == again and first[1]["train_loss"] != other[1]["train_loss"]


def test_a_linear_probe_learns_nothing_from_noise_that_it_has_not_seen():
    random = np.random.default_rng(1)
    x = torch.tensor(random.standard_normal((600, 5)), dtype=torch.float32)
    labels = torch.arange(600) % 3
    metrics, _ = probing.linear_probe(
        linear(), probing.Features(x[:300], labels[:300], x[300:], labels[300:], 3)
    )
    assert abs(metrics["test_top1"] - 1 / 3) < 0.12


@pytest.mark.parametrize("settings", [dict(lr=1e38), dict(name="sgd", lr=1e38)])
def test_a_linear_probe_that_diverges_has_no_metrics(settings):
    found = probing.linear_probe(linear(optimizer=OptimizerSpec(**settings)), blobs(spread=1e3))
    assert found == ({}, {"epoch": [], "train_loss": []})


def test_weights_that_break_in_the_very_last_step_count_as_diverged():
    found = probing.linear_probe(
        linear(epochs=1, batch_size=90, optimizer=OptimizerSpec("sgd", lr=1e38)), blobs(spread=1e3)
    )
    assert found[0] == {}, "the loss before the only step is finite, the test loss after it is not"


def test_the_probes_own_settings_apply():
    found = blobs(spread=1.0)
    usual = probing.linear_probe(linear(epochs=3), found)[1]["train_loss"]
    changes = [
        dict(label_smoothing=0.3),
        dict(optimizer=OptimizerSpec(lr=1e-3)),
        dict(optimizer=OptimizerSpec("sgd", lr=1e-2)),
        dict(optimizer=OptimizerSpec(lr=1e-2, schedule="linear")),
        dict(batch_size=15),
    ]
    for change in changes:
        assert probing.linear_probe(linear(**dict(epochs=3) | change), found)[1]["train_loss"] != usual
    clipped, free = (
        probing.linear_probe(linear(epochs=3, optimizer=OptimizerSpec("sgd", lr=0.1, clip=clip)), found)[1]
        for clip in (1e-6, None)
    )
    assert np.ptp(clipped["train_loss"]) < 1e-3 < np.ptp(free["train_loss"])


def test_a_probe_with_a_batch_larger_than_its_data_is_one_line():
    with pytest.raises(MlplibError, match="a batch of 91 is larger than the 90 training images"):
        probing.linear_probe(linear(batch_size=91), blobs())


# --------------------------------------------------------------------------- ridge probe


def by_least_squares(found: probing.Features, penalty: float) -> np.ndarray:
    """Scores of the test features: ridge as ordinary least squares on rows added for the penalty."""
    x, test = (part.double().numpy() for part in (found.train, found.test))
    y = np.eye(found.classes)[found.train_labels.numpy()]
    mean, offset = x.mean(0), y.mean(0)
    centered = x - mean
    strength = penalty * np.mean(np.sum(centered**2, axis=0) / len(x))
    rows = np.vstack([centered, np.sqrt(len(x) * strength) * np.eye(x.shape[1])])
    targets = np.vstack([y - offset, np.zeros((x.shape[1], found.classes))])
    weight = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return (test - mean) @ weight + offset


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 1.0, 100.0])
def test_ridge_is_least_squares_with_a_penalty(penalty, monkeypatch):
    monkeypatch.setattr(probing, "EVALUATION_BATCH", 7)  # so that the sums are put together from parts
    found = blobs(spread=0.7)
    solution = probing._Moments.of(found, torch.arange(90)).solve(penalty)
    np.testing.assert_allclose(solution(found.test).numpy(), by_least_squares(found, penalty), atol=1e-9)


def test_ridge_takes_the_best_penalty_and_then_all_training_images():
    found = blobs(spread=0.8, count=200)
    metrics, _ = probing.ridge_probe(probe(method="ridge"), found)
    scores = by_least_squares(found, metrics["penalty"])
    assert metrics["penalty"] in probing.RIDGE_PENALTIES
    assert metrics["test_top1"] == np.mean(scores.argmax(1) == found.test_labels.numpy())


@settings(max_examples=25)
@given(
    shift=st.floats(-100, 100),
    first=st.integers(1, 89),
    seed=st.integers(0, 5),
)
def test_moments_add_up_and_do_not_care_where_the_features_lie(shift, first, seed):
    plain, moved = blobs(spread=0.7, seed=seed), blobs(spread=0.7, seed=seed, shift=shift)
    rows = torch.arange(90)
    whole = probing._Moments.of(plain, rows)
    parts = probing._Moments.of(moved, rows[:first]) + probing._Moments.of(moved, rows[first:])
    torch.testing.assert_close(parts.gram, whole.gram, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(parts.cross, whole.cross, atol=1e-3, rtol=1e-4)
    one, other = (m.solve(1e-2) for m in (whole, parts))
    torch.testing.assert_close(one(plain.test), other(moved.test), atol=1e-3, rtol=1e-3)


def test_the_penalty_is_chosen_without_test_data():
    found = blobs(spread=1.0, width=40)
    choices = set()
    for seed in range(8):
        spoiled = dataclasses.replace(
            found, test=torch.randn(45, 40) * 100, test_labels=found.test_labels.roll(seed)
        )
        choices.add(probing.ridge_probe(probe(method="ridge"), spoiled)[0]["penalty"])
    assert choices == {probing.ridge_probe(probe(method="ridge"), found)[0]["penalty"]}


@pytest.mark.parametrize("part", ["train", "test"])
def test_ridge_of_features_that_are_not_finite_has_no_metrics(part):
    found = blobs()
    getattr(found, part)[3, 2] = float("nan")
    assert probing.ridge_probe(probe(method="ridge"), found) == ({}, {})


def test_ridge_of_constant_features_predicts_a_constant():
    found = blobs()
    flat = dataclasses.replace(found, train=torch.ones_like(found.train), test=torch.ones_like(found.test))
    metrics, history = probing.ridge_probe(probe(method="ridge"), flat)
    assert history == {"directions": [0.0], "constant": [1.0]}
    assert metrics["test_top1"] == pytest.approx(1 / 3)


@settings(max_examples=25)
@given(width=st.integers(1, 12), used=st.integers(1, 12), seed=st.integers(0, 9))
def test_directions_count_what_varies_whichever_way_it_is_turned(width, used, seed):
    """``used`` features of the same variance and the rest constant; turned, all of them vary."""
    used = min(used, width)
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=(400, used))
    spread = np.zeros((400, width))
    spread[:, :used] = np.linalg.qr(noise - noise.mean(0))[0]
    turn = np.linalg.qr(draw.normal(size=(width, width)))[0]
    labels = torch.arange(400) % 3
    for x, constant in ((spread, (width - used) / width), (spread @ turn, None)):
        x = torch.from_numpy(x + 5.0)
        found = probing._Moments.of(probing.Features(x, labels, x, labels, 3), torch.arange(400)).describe()
        assert found["directions"] == [pytest.approx(used, rel=1e-6)]
        assert constant is None or found["constant"] == [pytest.approx(constant)]
    stretched = spread * np.array([10.0, *[1.0] * (width - 1)])
    x = torch.from_numpy(stretched)
    found = probing._Moments.of(probing.Features(x, labels, x, labels, 3), torch.arange(400)).describe()
    variances = np.var(stretched, axis=0)
    assert found["directions"] == [pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-6)]


@pytest.mark.parametrize("seed", [0, 3])
def test_held_out_images_have_a_stream_of_random_numbers_of_their_own(seed, monkeypatch):
    seeds, draw, found = [], np.random.default_rng, blobs(spread=0.8)
    there = open_data(noise(), DataSpec("hand"), CPU)
    monkeypatch.setattr(np.random, "default_rng", lambda given: seeds.append(given) or draw(given))
    probing.ridge_probe(probe(method="ridge", seed=seed), found)
    probing.linear_probe(linear(seed=seed, epochs=2), found)
    next(there.training_batches(8, FULL_DA, seed, 0, torch.float32))
    streams = [draw(given).integers(2**62) for given in seeds]
    # An epoch's order is that of a probe's and of a training's epoch, and nothing else may repeat it.
    assert len(streams) == 5 and len(set(streams)) == 4


def test_a_single_image_is_too_few_for_ridge():
    with pytest.raises(MlplibError, match="needs two training images, not 1"):
        probing.ridge_probe(probe(method="ridge"), blobs(count=1))


# --------------------------------------------------------------------------- accuracies


def test_accuracies_by_hand():
    scores = torch.eye(6)[[0, 1, 2, 2]]
    found = probing.accuracies(scores, torch.tensor([0, 1, 2, 3]), "x_")
    assert found["x_top1"] == 0.75 and found["x_top5"] >= 0.75
    few = probing.accuracies(torch.eye(2), torch.tensor([1, 1]))
    assert few == {"top1": 0.5, "top5": 1.0}


def test_real_accuracy_counts_any_accepted_label_and_leaves_images_without_one_out():
    scores = torch.eye(3)[[0, 1, 2, 0]]
    accepted = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    assert probing.real_accuracy(scores, accepted) == pytest.approx(2 / 3)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(2, 8), st.integers(0, 10**6))
def test_real_accuracy_with_one_accepted_label_each_is_accuracy(count, classes, seed):
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, classes, generator=random)
    labels = torch.randint(classes, (count,), generator=random)
    accepted = torch.nn.functional.one_hot(labels, classes).bool()
    assert probing.real_accuracy(scores, accepted) == probing.accuracies(scores, labels)["top1"]


# --------------------------------------------------------------------------- test-time augmentation

AS_THEY_ARE = dict(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False)


def views(spec: EvaluateSpec, network=None, there=None, **how):
    there = there or open_data(noise(), DataSpec("hand"), CPU)
    network = network or build_model(ModelSpec.parse("B-1/Wi-16"), (8, 8, 3), 4, seed=0)
    plain = probing.test_scores(network, there, "fp32")
    return plain, *probing.augmented_scores(network, there, spec, "fp32", BAR, **how)


@pytest.mark.parametrize("crops", [1, 3])
def test_views_that_change_nothing_give_the_plain_prediction(crops):
    plain, logits, probabilities, history = views(EvaluateSpec(UPSTREAM, crops=crops, **AS_THEY_ARE))
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(probabilities, plain.softmax(1), atol=1e-5, rtol=1e-5)
    assert history["views"] == [1, 2, 3][:crops] and len(set(history["tta_logits_top1"])) == 1


class Torn(torch.nn.Module):
    """Sure of class 0 in bright views, leaning to class 1 in dark ones."""

    def forward(self, images):
        bright = images.flatten(1).mean(1, keepdim=True) > 0
        return torch.where(bright, torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 4.0]]))


def test_averages_of_logits_and_of_probabilities_differ_where_one_view_is_very_sure():
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[:, :, :4] = 255  # half bright: crops fall on either side
    two = dataset(np.concatenate([pixels, pixels]), pixels, classes=2)
    there = open_data(two, DataSpec("hand"), CPU)
    spec = EvaluateSpec(UPSTREAM, crops=200, crop_scale=(0.2, 0.2), flip=False)
    _, logits, probabilities, history = views(spec, Torn(), there)
    share = (logits[:, 0] / 9.0)[:, None]  # of bright views
    torch.testing.assert_close(logits, torch.cat([9 * share, 4 * (1 - share)], 1))
    sure = torch.tensor([[9.0, 0.0], [0.0, 4.0]]).softmax(1)
    torch.testing.assert_close(probabilities, share * sure[0] + (1 - share) * sure[1], atol=1e-4, rtol=1e-4)
    between = (share > 4 / 13) & (share < 0.49)
    assert between.all(), "bright in fewer than half of the views, and still the larger mean logit"
    assert logits.argmax(1).tolist() == [0, 0] and probabilities.argmax(1).tolist() == [1, 1]
    assert history["views"] == [1, 2, 4, 8, 16, 32, 64, 128, 200]
    assert history["tta_logits_top1"][-1] == history["tta_softmax_top1"][-1] == 0.5


def measured(network) -> list[torch.Tensor]:
    """Everything that is read from a trained network."""
    there = open_data(noise(), DataSpec("hand"), CPU)
    features = probing.features(network, there)
    found = training.evaluate(network, there.test_batches())
    scores = views(EvaluateSpec(UPSTREAM, crops=2), network, there)[:3]
    return [features.train, features.test, *map(torch.tensor, found.values()), *scores]


def test_images_that_memory_cannot_take_at_once_are_evaluated_in_parts():
    """A training that finds room for its micro-batches must not fail at its end, time and again."""
    plain, cramped = (build_model(ModelSpec.parse("B-1/Wi-16"), (8, 8, 3), 4, seed=0) for _ in range(2))
    seen = []

    def refuse(layer, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    cramped.linear_in.register_forward_pre_hook(refuse)
    for found, expected in zip(measured(cramped), measured(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert seen[:4] == [60, 30, 15, 8] and sum(size for size in seen if size <= 4) == 60 + 30 * 5


def test_views_follow_from_the_seed_and_more_views_begin_with_the_same():
    few, again, many, other = (
        views(EvaluateSpec(UPSTREAM, crops=n, seed=s))[1:] for n, s in ((4, 0), (4, 0), (8, 0), (4, 1))
    )
    assert torch.equal(few[0], again[0]) and not torch.equal(few[0], other[0])
    assert many[2]["tta_logits_top1"][:3] == few[2]["tta_logits_top1"]


def test_an_evaluation_that_is_stopped_says_so():
    late = StopRequest(deadline=time.monotonic() - 1)
    with pytest.raises(Interrupted, match="stopped after view 1 of 5"):
        views(EvaluateSpec(UPSTREAM, crops=5), stop=late)


def test_an_evaluation_of_a_run_repeats_its_accuracy(executor):
    tuned = fine_tune()
    trained, found = executor.record(tuned), executor.record(EvaluateSpec(tuned, crops=4))
    if found.environment["precision"] == "fp32":
        assert found.metrics["test_top1"] == trained.metrics["test_top1"]
    assert found.metrics["test_top1"] == pytest.approx(trained.metrics["test_top1"], abs=0.01)
    assert found.history["views"] == [1, 2, 4]
    for kind in ("tta_logits", "tta_softmax"):
        assert found.history[f"{kind}_top1"][-1] == found.metrics[f"{kind}_top1"]
    plain = executor.record(EvaluateSpec(tuned, crops=0))
    assert plain.history == {} and set(plain.metrics) == {"test_top1", "test_top5"}


def test_an_evaluation_that_overflows_has_no_accuracy(tmp_path, monkeypatch):
    # Numbers of this network fit into float32, not into fp16. A ranking of NaN had a top-5 accuracy of 50 %.
    monkeypatch.setattr(machine, "has_bf16", lambda device: False)
    pick = machine.pick_precision
    monkeypatch.setattr(
        machine, "pick_precision", lambda p, device: pick("fp16" if p == "auto" else p, device)
    )
    model = ModelSpec.parse("B-2/Wi-32", norm="none")
    large = dataclasses.replace(UPSTREAM, model=model, optimizer=OptimizerSpec(lr=1.0), precision="fp32")
    executor = Executor(RunStore(tmp_path), device=CPU, log=lambda line: None)
    assert executor.record(large).status == "completed"
    found = executor.record(EvaluateSpec(large, crops=2))
    assert (found.status, found.metrics) == ("diverged", {})


def test_a_network_of_other_classes_cannot_be_evaluated(executor, tmp_path):
    from mlplib import official

    network = build_model(ModelSpec.parse("B-1/Wi-16"), (16, 16, 3), 7, seed=0)
    torch.save(network.state_dict(), tmp_path / "w")
    found = official.find(tmp_path)
    there = Executor(executor.store, device=CPU, checkpoints=found)
    with pytest.raises(MlplibError, match="tells 7 classes apart and shapes-16-downstream has 4: fine-tune"):
        there.record(EvaluateSpec(found[0].spec, data=HERE, crops=0))


# --------------------------------------------------------------------------- fine-tuning


def states(executor, spec):
    executor.record(spec)
    return executor.weights(spec.upstream), executor.weights(spec)


@pytest.mark.parametrize(
    "optimizer",
    [
        OptimizerSpec("sgd", lr=0.05, weight_decay=0.1),
        OptimizerSpec(lr=1e-3),
        OptimizerSpec("adamw", lr=1e-3),
    ],
    ids=lambda o: o.name,
)
def test_a_body_without_a_learning_rate_keeps_every_bit(executor, optimizer):
    before, after = states(executor, fine_tune(body_lr=0.0, optimizer=optimizer))
    for name in before:
        if not name.startswith(training.HEAD):
            assert torch.equal(before[name], after[name]), name
    drawn = build_model(UPSTREAM.model, (16, 16, 3), 4, seed=0).state_dict()
    for name in ("linear_out.weight", "linear_out.bias"):
        assert after[name].shape == drawn[name].shape and not torch.equal(after[name], drawn[name]), name


def test_a_head_without_a_learning_rate_is_as_drawn_and_the_body_moves(executor):
    spec = fine_tune(body_lr=0.01, optimizer=OptimizerSpec("sgd", lr=1e-30), seed=3)
    before, after = states(executor, spec)
    drawn = build_model(UPSTREAM.model, (16, 16, 3), 4, seed=3).state_dict()
    assert torch.equal(after["linear_out.weight"], drawn["linear_out.weight"])
    assert not torch.equal(before["linear_in.weight"], after["linear_in.weight"])


def test_each_part_moves_at_its_own_rate(executor):
    """Lion moves every weight by exactly its rate a step: one step tells both rates."""
    spec = fine_tune(epochs=1, batch_size=800, optimizer=OptimizerSpec(lr=1e-3), body_lr=1e-4)
    before, after = states(executor, spec)
    drawn = build_model(UPSTREAM.model, (16, 16, 3), 4, seed=0).state_dict()
    steps = {
        "body": (after["linear_in.weight"] - before["linear_in.weight"]).abs(),
        "head": (after["linear_out.weight"] - drawn["linear_out.weight"]).abs(),
    }
    for part, rate in (("body", 1e-4), ("head", 1e-3)):
        assert steps[part].max() == pytest.approx(rate, rel=1e-2), part
        assert steps[part][steps[part] > 0].min() == pytest.approx(rate, rel=1e-2), part


def test_a_schedule_scales_both_rates(executor):
    """With a line to 0 over two steps, they are the rate and half of it."""
    spec = fine_tune(
        epochs=2, batch_size=800, optimizer=OptimizerSpec(lr=1e-3, schedule="linear"), body_lr=1e-4
    )
    before, after = states(executor, spec)
    moved = (after["linear_in.weight"] - before["linear_in.weight"]).abs().max()
    assert moved == pytest.approx(1.5e-4, rel=1e-2)


def test_a_fine_tuning_stopped_after_every_batch_changes_nothing(executor, tmp_path):
    spec = fine_tune(
        batch_size=200,
        augment=AugmentSpec(flip=True, crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0)),
        optimizer=OptimizerSpec("sgd", lr=0.01, weight_decay=1e-4),
        label_smoothing=0.3,
        evaluate_at=(1,),
    )
    shapes = executor.dataset(HERE.name)
    whole = executor.record(spec)
    start = executor.start(UPSTREAM)
    for _ in range(2 * 4):
        with pytest.raises(Interrupted):
            how = Execution(device=CPU, stop=StopRequest(time.monotonic() - 1))
            training.train(spec, shapes, tmp_path, start=start, how=how)
    found = training.train(spec, shapes, tmp_path, start=start, how=Execution(device=CPU))
    assert (found.metrics, found.history) == (whole.metrics, whole.history)


def test_what_follows_a_diverged_run_diverged_too(tmp_path):
    broken = dataclasses.replace(UPSTREAM, optimizer=OptimizerSpec("sgd", lr=1e12))
    tuned, said = fine_tune(upstream=broken), []
    executor = Executor(RunStore(tmp_path), device=CPU, log=said.append)
    specs = [
        tuned,
        EvaluateSpec(tuned, crops=2),
        probe(upstream=broken),
        probe(upstream=broken, method="ridge"),
    ]
    for record in executor.records(specs):
        assert (record.status, record.metrics) == ("diverged", {})
        assert executor.store.find(record.spec) == record
    assert executor.record(probe(upstream=broken, epoch=0)).status == "completed", "its weights were finite"
    assert sum("diverged" in line for line in said) == 5


def test_a_probe_that_diverged_left_the_others_alone(executor):
    spec = linear(upstream=UPSTREAM, batch_size=64, optimizer=OptimizerSpec("sgd", lr=1e38))
    record = executor.record(spec)
    assert (record.status, record.metrics) == ("diverged", {})
    assert executor.record(probe(upstream=UPSTREAM, method="ridge")).status == "completed"


# --------------------------------------------------------------------------- weights on the way


def test_weights_kept_on_the_way_are_those_of_a_shorter_run(executor, tmp_path):
    long = small(epochs=4, keep_at=(1, 3), augment=FULL_DA)
    there = Executor(RunStore(tmp_path), device=CPU)
    there.record(long)
    for epoch in (1, 3):
        short = small(epochs=epoch, augment=FULL_DA)
        there.record(short)
        kept, end = there.weights(long, epoch), there.weights(short)
        assert kept.keys() == end.keys() and all(torch.equal(kept[name], end[name]) for name in kept)
    drawn = there.network(long, 0).state_dict()
    fresh = build_model(long.model, (16, 16, 3), 10, seed=0).state_dict()
    assert all(torch.equal(drawn[name], fresh[name]) for name in fresh)


def test_a_probe_reads_the_moment_that_it_names(tmp_path):
    long = small(epochs=3, keep_at=(1,), data=DataSpec("shapes-16-upstream"))
    there = Executor(RunStore(tmp_path), device=CPU)
    there.record(long)
    read = {e: there.features(probe(upstream=long, epoch=e)).test for e in (0, 1, None)}
    for epoch, found in read.items():
        network = there.network(long, epoch)
        with torch.no_grad():
            resident = there.on_device(HERE)
            wanted = torch.cat([network.features(b.images) for b in resident.test_batches()])
        assert torch.equal(found, wanted)
    assert not torch.equal(read[0], read[1]) and not torch.equal(read[1], read[None])


# --------------------------------------------------------------------------- held-out images


def rows_of(split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.rows]


@pytest.mark.parametrize("held_out, examples", [(40, None), (100, 60), (4, None)])
def test_held_out_images_and_the_rest_are_the_training_set(held_out, examples):
    shapes = data.load("shapes-16-downstream")
    whole = open_data(shapes, HERE, CPU)
    found = open_data(shapes, DataSpec(HERE.name, held_out=held_out, examples=examples), CPU)
    train, held, everything = rows_of(found.train), rows_of(found.test), rows_of(whole.train)
    assert len(held) == held_out and len(train) == (examples or len(everything) - held_out)
    assert not set(train) & set(held) and set(train) | set(held) <= set(everything)
    if examples is None:
        assert sorted(train + held) == sorted(everything)
    counts = np.bincount(found.test.labels, minlength=4)
    assert counts.max() - counts.min() <= 1
    assert not set(held) & set(rows_of(whole.test)), "test images stay unseen"
    again = open_data(shapes, DataSpec(HERE.name, held_out=held_out, examples=examples), CPU)
    assert torch.equal(found.test.rows, again.test.rows)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 10**6))
def test_any_share_is_the_same_of_every_class(held_out, classes, seed):
    images = np.random.default_rng(seed).integers(0, 256, (41, 2, 2, 3), dtype=np.uint8)
    hand = dataset(images, classes=classes)
    found = open_data(hand, DataSpec("hand", held_out=held_out), CPU)
    assert sorted(rows_of(found.train) + rows_of(found.test)) == sorted(
        rows_of(open_data(hand, DataSpec("hand"), CPU).train)
    )
    counts = np.bincount(found.test.labels, minlength=classes)
    share = np.bincount(hand.train.labels, minlength=classes) * held_out / 41
    assert counts.sum() == held_out
    assert (np.floor(share) <= counts).all() and (counts <= np.ceil(share)).all()


def test_a_run_on_held_out_images_never_reads_the_test_images():
    spec = small(data=DataSpec("hand", held_out=20), batch_size=20)
    kept = noise()
    other = dataclasses.replace(kept, test=dataclasses.replace(kept.test, images=255 - kept.test.images))
    first, second = (training.train(spec, found, how=Execution(device=CPU)) for found in (kept, other))
    assert first.metrics == second.metrics and first.data["test_images"] == 20


# --------------------------------------------------------------------------- resolution


def at(side: int, found, **changes):
    return open_data(found, DataSpec("hand", resolution=side, **changes), CPU)


@pytest.mark.parametrize("side", [4, 5, 16, 24])
def test_images_of_another_resolution_have_its_shape(side):
    found = at(side, noise())
    assert found.image_shape == (side, side, 3)
    assert found.train.rows.dtype == torch.uint8 and len(found.train) == 60
    assert next(found.test_batches()).images.shape == (30, 3, side, side)


@settings(max_examples=25)
@given(st.integers(0, 255), st.integers(1, 40).filter(lambda side: side != 8))
def test_plain_images_stay_plain(value, side):
    plain = dataset(np.full((4, 8, 8, 3), value, np.uint8))
    assert (at(side, plain).train.rows == value).all()


def test_growing_and_shrinking_keep_the_mean_color():
    found = noise(height=32, width=32)
    small_rows = open_data(found, DataSpec("hand"), CPU).train.rows
    large = at(64, found).train.rows
    for rows in (large, resize(large, 32), resize(small_rows, 16)):
        difference = rows.float().mean((1, 3)) - small_rows.float().mean((1, 3))
        assert difference.abs().max() < 1.0, "less than one of 256 steps"
    assert (resize(large, 32).float() - small_rows.float()).abs().mean() < (
        (small_rows.float() - small_rows.float().mean()).abs().mean()
    )


def test_resizing_does_not_mix_images_or_swap_sides():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, :4, :, 0] = 255  # red above
    images[1, :, :4, 2] = 255  # blue on the left
    rows = at(16, dataset(images, classes=2)).train.rows.permute(0, 2, 1, 3)  # (N, 3, H, W)
    assert rows[0, 0, :6].min() == 255 and rows[0, 0, 10:].max() == 0 and rows[0, 1:].max() == 0
    assert rows[1, 2, :, :6].min() == 255 and rows[1, 2, :, 10:].max() == 0 and rows[1, :2].max() == 0


def test_a_run_says_the_resolution_it_was_trained_at(executor):
    spec = small(data=DataSpec("shapes-16-downstream", resolution=32), epochs=1)
    executor.record(spec)
    assert executor.weights(spec)["linear_in.weight"].shape == (16, 32 * 32 * 3)
    assert executor.network(spec).image_shape == (32, 32, 3)
