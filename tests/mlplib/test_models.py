"""Every model family: what it computes, what it refuses, and what it weighs."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from mlp_formulas import CLASSES, SHAPE, pixels, reference
from torch.utils.flop_counter import FlopCounterMode

from mlplib import models
from mlplib.errors import MlplibError
from mlplib.models import (
    BUILDERS,
    build_model,
    count_macs,
    count_parameters,
    executed_flops,
    meta_model,
)
from mlplib.specs import ACTIVATIONS, BASELINES, FAMILIES, NORM_POSITIONS, NORMS, ModelSpec

B = ModelSpec(family="b-mlp", depth=3, width=8, expansion=2)
S = ModelSpec(family="s-mlp", depth=3, width=8, activation="relu", skip=False)


def every_spec():
    """All settings of both MLPs that differ in what they compute, and the small CNN."""
    options = itertools.product(NORMS, NORM_POSITIONS, ACTIVATIONS, (True, False), (0.0, 0.2), (True, False))
    for norm, position, activation, skip, dropout, official in options:
        if norm == "none" and position == "post":
            continue
        changes = dict(norm=norm, norm_position=position, activation=activation, skip=skip, dropout=dropout)
        yield dataclasses.replace(S, official_order=official, **changes)
        if not official:
            yield dataclasses.replace(B, **changes)
    yield ModelSpec("small-cnn")  # the other baselines have test_baselines.py


def randomize(model):
    """Give norms and biases values that matter (they start at ones and zeros)."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 0.6, generator=generator)
    return model


# --------------------------------------------------------------------------- the registry


def test_the_registry_holds_every_family():
    assert set(BUILDERS) == {*FAMILIES.values(), *BASELINES}


@pytest.mark.parametrize("family", [*FAMILIES.values(), "small-cnn"])
def test_every_family_and_setting_trains(family):
    specs = [spec for spec in every_spec() if spec.family == family]
    assert specs
    for spec in specs:
        model = build_model(spec, SHAPE, CLASSES, seed=1)
        logits = model(pixels())
        assert logits.shape == (6, CLASSES) and logits.dtype == torch.float32
        F.cross_entropy(logits, torch.arange(6) % CLASSES).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), (spec, name)
        # Zero gradients everywhere would be a dead network; the first layer is the last to hear.
        first = next(iter(model.parameters()))
        assert logits.isfinite().all() and first.grad.abs().sum() > 0, spec
        assert model.features(pixels()).shape == (6, model.linear_out.in_features)


@pytest.mark.parametrize("spec", [B, S, ModelSpec("small-cnn")], ids=lambda s: s.family)
def test_the_seed_alone_decides_the_initial_weights(spec):
    def state(seed):
        return build_model(spec, SHAPE, CLASSES, seed=seed).state_dict()

    torch.manual_seed(11)
    first = state(3)
    after = torch.rand(4)
    torch.manual_seed(11)
    assert torch.equal(after, torch.rand(4)), "building must not touch the global generator"
    again, other = state(3), state(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["linear_out.weight"], other["linear_out.weight"])


def test_a_seeded_model_has_memory_inside_another_default_device():
    with torch.device("meta"):
        assert build_model(B, SHAPE, CLASSES, seed=0).linear_in.weight.device.type == "cpu"
        assert build_model(B, SHAPE, CLASSES).linear_in.weight.device.type == "meta"


def test_without_a_seed_the_global_generator_decides():
    torch.manual_seed(5)
    first = build_model(B, SHAPE, CLASSES).linear_in.weight
    second = build_model(B, SHAPE, CLASSES).linear_in.weight
    torch.manual_seed(5)
    assert torch.equal(first, build_model(B, SHAPE, CLASSES).linear_in.weight)
    assert not torch.equal(first, second)


def test_linear_maps_start_as_pytorch_starts_them():
    model = build_model(B, SHAPE, CLASSES, seed=2)
    torch.manual_seed(2)
    assert torch.equal(model.linear_in.weight, torch.nn.Linear(48, 8).weight)


# --------------------------------------------------------------------------- settings: used or refused

CHANGES = {
    "depth": 2,
    "width": 6,
    "expansion": 3,
    "norm": "batch",
    "norm_position": "post",
    "activation": None,  # the other one
    "skip": None,
    "dropout": 0.5,
    "official_order": True,
}
MEANINGLESS = {"b-mlp": {"official_order"}, "s-mlp": {"expansion"}}


@pytest.mark.parametrize("family", sorted(BUILDERS))
@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ModelSpec) if f.name != "family"])
def test_every_setting_changes_the_network_or_is_refused(family, field):
    base = {"b-mlp": B, "s-mlp": S}.get(family, ModelSpec(family))
    other = {"activation": {"gelu": "relu", "relu": "gelu"}[base.activation], "skip": not base.skip}
    change = {field: other.get(field, CHANGES[field])}
    if family in BASELINES or field in MEANINGLESS[family]:
        with pytest.raises(MlplibError, match=field):
            build_model(dataclasses.replace(base, **change), SHAPE, CLASSES)
        return
    # One seed draws the same weights, so only what the setting does can make a difference.
    outputs = []
    for spec in (base, dataclasses.replace(base, **change)):
        model = build_model(spec, SHAPE, CLASSES, seed=0)
        torch.manual_seed(0)
        outputs.append(model(pixels()))
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-4)


def test_post_norm_without_a_norm_is_refused():
    with pytest.raises(MlplibError, match="norm_position means nothing with norm 'none'"):
        dataclasses.replace(B, norm="none", norm_position="post")


def test_no_norm_leaves_no_norm_parameters():
    for spec in (B, S):
        names = build_model(dataclasses.replace(spec, norm="none"), SHAPE, CLASSES).state_dict()
        assert not any("norm" in name for name in names)


@pytest.mark.parametrize("position", NORM_POSITIONS)
def test_gradients_of_norms_are_exact_sums_over_a_large_batch_in_bf16(position):
    spec = ModelSpec("b-mlp", depth=1, width=8, expansion=2, norm_position=position)
    model = randomize(build_model(spec, SHAPE, CLASSES, seed=0))
    images, above = pixels(4096), torch.randn(4096, CLASSES, generator=torch.Generator().manual_seed(1))

    def gradients(rows):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            model(images[rows]).backward(above[rows].bfloat16())
        return torch.cat([p.grad for name, p in model.named_parameters() if "norm" in name])

    whole = gradients(slice(None))
    parts = sum(gradients(slice(first, first + 64)) for first in range(0, 4096, 64))
    # A sum in bf16, as under autocast alone, is wrong by 4 to 8 %; over 64 images a tenth of that.
    assert float((whole - parts).norm() / parts.norm()) < 1e-3


def test_dropout_acts_in_training_only():
    for spec in (B, S):
        dropped = build_model(dataclasses.replace(spec, dropout=0.5), SHAPE, CLASSES, seed=0)
        plain = build_model(spec, SHAPE, CLASSES, seed=0)
        assert not torch.equal(dropped(pixels()), dropped(pixels()))
        assert torch.equal(dropped.eval()(pixels()), plain.eval()(pixels()))


def test_bottleneck_dropout_follows_both_linear_maps():
    block = models.BottleneckBlock(dataclasses.replace(B, width=64, dropout=0.5))
    seen = {}
    block.block[2].register_forward_pre_hook(lambda _, inputs: seen.update(hidden=inputs[0]))
    out = block(torch.randn(50, 64))
    for dropped in (seen["hidden"], out):
        assert 0.4 < (dropped == 0).float().mean() < 0.6


@pytest.mark.parametrize("sizes", [((4, 4), 5), ((4, 0, 3), 5), ((4, 4, 3), 0), ((4, 4.0, 3), 5)], ids=str)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(MlplibError, match="a model needs"):
        build_model(B, *sizes)


# --------------------------------------------------------------------------- what they compute


def test_every_setting_computes_its_formula():
    for spec in every_spec():
        if spec.family in BASELINES:
            continue
        model = randomize(build_model(spec, SHAPE, CLASSES, seed=0)).double().eval()
        images = pixels().double()
        expected = reference(model.state_dict(), spec, images)
        torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10, msg=str(spec))


@pytest.mark.parametrize("spec", [B, S], ids=lambda s: s.family)
def test_flat_images_are_the_same_images(spec):
    model = build_model(spec, (2, 5, 3), CLASSES, seed=0)
    images = pixels(shape=(2, 5, 3))
    assert torch.equal(model(images), model(images.flatten(1)))
    assert torch.equal(model(images.contiguous(memory_format=torch.channels_last)), model(images))


@pytest.mark.parametrize("spec", [B, S, ModelSpec("small-cnn")], ids=lambda s: s.family)
@pytest.mark.parametrize(
    "shape", [(6, 2, 5, 3), (6, 3, 5, 2), (6, 3, 4, 4), (6, 29), (6, 2, 15), (30,)], ids=str
)
def test_images_of_another_size_are_refused(spec, shape):
    # The first two hold as many numbers as (3, 2, 5): only their order is wrong.
    with pytest.raises(MlplibError, match=r"takes images \(B, 3, 2, 5\)"):
        build_model(spec, (2, 5, 3), CLASSES)(torch.zeros(shape))


@pytest.mark.parametrize("spec", [B, S], ids=lambda s: s.family)
def test_an_mlp_on_permuted_pixels_is_an_mlp_with_permuted_columns(spec):
    """Why C22 holds: permuting pixels and the first layer's columns alike leaves every logit as it was."""
    model = randomize(build_model(spec, SHAPE, CLASSES)).double()
    images = pixels().double()
    logits = model(images)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = images.flatten(2)[:, :, order].reshape(images.shape)
    assert not torch.allclose(model(moved), logits)
    with torch.no_grad():
        columns = model.linear_in.weight.reshape(-1, 3, 16)[:, :, order]
        model.linear_in.weight.copy_(columns.reshape(model.linear_in.weight.shape))
    torch.testing.assert_close(model(moved), logits, rtol=1e-12, atol=1e-12)


def test_the_cnn_sees_neighbors_and_places_alike():
    """The bias that an MLP lacks: away from the border, shifting the image shifts every feature map."""
    model = build_model(ModelSpec("small-cnn"), (32, 32, 3), CLASSES, seed=0).eval()
    convolutions = [block[0] for block in model.blocks]
    spot = torch.zeros(2, 3, 32, 32)
    spot[0, :, 8, 8] = spot[1, :, 16, 16] = 1.0  # eight pixels further: one step after three strides
    for convolution in convolutions:
        spot = convolution(spot)
    near, far = spot
    assert near.abs().sum() > 0
    torch.testing.assert_close(near[:, :3, :3], far[:, 1:, 1:])
    assert (near != 0).any(0).sum() <= 9, "one pixel must reach a 3x3 neighborhood of the 4x4 places"


@pytest.mark.parametrize("side", [16, 32, 64])
def test_the_cnn_takes_the_studys_image_sizes(side):
    model = meta_model(ModelSpec("small-cnn"), (side, side, 3), CLASSES)
    assert model(torch.empty(2, 3, side, side, device="meta")).shape == (2, CLASSES)
    assert 100_000 < count_parameters(model) < 500_000


# --------------------------------------------------------------------------- size and cost

TABLE_5 = {
    "B-6/Wi-256": 9,
    "B-12/Wi-256": 12,
    "B-6/Wi-512": 24,
    "B-12/Wi-512": 37,
    "B-6/Wi-1024": 74,
    "B-12/Wi-1024": 124,
}


@pytest.mark.parametrize("name", TABLE_5)
def test_parameter_counts_are_those_of_table_5(name):
    model = meta_model(ModelSpec.parse(name), (64, 64, 3), 11_230)
    assert count_parameters(model) // 10**6 == TABLE_5[name]


def test_counts_follow_the_formulas():
    n, m, k, depth, classes = 48, B.width, B.expansion, B.depth, CLASSES
    ends = n * m + m * classes
    model = meta_model(B, SHAPE, classes)
    assert count_macs(model, SHAPE) == ends + depth * 2 * k * m * m
    norms_and_biases = depth * (2 * m + k * m + m)
    assert count_parameters(model) == ends + m + classes + depth * 2 * k * m * m + norms_and_biases
    model = meta_model(S, SHAPE, classes)
    assert count_macs(model, SHAPE) == ends + depth * m * m
    assert count_parameters(model) == ends + m + classes + depth * (m * m + m + 2 * m)


@pytest.mark.parametrize("shape", [SHAPE, (7, 10, 3)])
def test_torchs_counter_finds_the_same(shape):
    """A step has no gradient for the input of the first layer."""
    height, width, channels = shape
    for spec in every_spec():
        model = meta_model(spec, shape, CLASSES)
        images = torch.empty(2, channels, height, width, device="meta")
        with FlopCounterMode(display=False) as counter:
            loss = model(images).sum()
            assert count_macs(model, shape) == counter.get_total_flops() / 4
            loss.backward()
        assert executed_flops(model, shape) == counter.get_total_flops() / 2


def test_the_cnns_macs_follow_the_formula():
    sides, channels = (16, 8, 8, 4), (3, 32, 64, 128, 256)
    convolutions = sum(9 * a * b * s * s for a, b, s in zip(channels, channels[1:], sides, strict=False))
    model = meta_model(ModelSpec("small-cnn"), (32, 32, 3), 10)
    assert count_macs(model, (32, 32, 3)) == convolutions + 256 * 10


def test_counting_needs_no_memory():
    generator = torch.get_rng_state()
    model = meta_model(dataclasses.replace(B, norm="batch", dropout=0.5), SHAPE, CLASSES)
    macs = count_macs(model, SHAPE)
    assert macs == count_macs(model.eval(), SHAPE) == count_macs(meta_model(B, SHAPE, CLASSES), SHAPE)
    assert torch.equal(generator, torch.get_rng_state())
    enormous = meta_model(ModelSpec.parse("B-100/Wi-100000"), (64, 64, 3), 10)
    assert count_parameters(enormous) > 8 * 10**12


def test_frozen_parameters_do_not_count():
    model = build_model(S, SHAPE, CLASSES)
    whole = count_parameters(model)
    model.linear_out.requires_grad_(False)
    assert count_parameters(model) == whole - (8 * CLASSES + CLASSES)
