"""Every model family: what it computes, what it refuses, what it weighs, and the official checkpoints."""

import dataclasses
import itertools
import math
import os

import pytest
import torch
import torch.nn.functional as F

from mlplib import models
from mlplib.errors import MlplibError
from mlplib.models import (
    BUILDERS,
    build_model,
    count_macs,
    count_parameters,
    load_official,
    meta_model,
    save_official,
)
from mlplib.specs import ACTIVATIONS, BASELINES, FAMILIES, NORM_POSITIONS, NORMS, ModelSpec

SHAPE, CLASSES = (4, 4, 3), 5
B = ModelSpec(family="b-mlp", depth=3, width=8, expansion=2)
S = ModelSpec(family="s-mlp", depth=3, width=8, activation="relu", skip=False)
OFFICIAL_S = dataclasses.replace(S, activation="gelu", official_order=True)


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
    yield ModelSpec("small-cnn")  # the other baselines have tests/test_baselines.py


def pixels(n=6, shape=SHAPE, seed=0):
    height, width, channels = shape
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def randomize(model, seed=0):
    """Give norms and biases values that matter (they start at ones and zeros)."""
    generator = torch.Generator().manual_seed(seed)
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
    with pytest.raises(MlplibError, match="norm_position has no effect"):
        build_model(dataclasses.replace(B, norm="none", norm_position="post"), SHAPE, CLASSES)


def test_no_norm_leaves_no_norm_parameters():
    for spec in (B, S):
        names = build_model(dataclasses.replace(spec, norm="none"), SHAPE, CLASSES).state_dict()
        assert not any("norm" in name for name in names)


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


def reference(state, spec, images):
    """The logits by the paper's formulas, from a state dict with the official names (evaluation mode)."""

    def linear(name, z):
        return z @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def sigma(z):
        if spec.activation == "relu":
            return z.clamp(min=0)
        return z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))

    def norm(i, z):
        if spec.norm == "none":
            return z
        name = f"layernorms.{i}."
        if spec.norm == "layer":
            mean, variance = z.mean(1, keepdim=True), z.var(1, keepdim=True, unbiased=False)
        else:
            mean, variance = state[name + "running_mean"], state[name + "running_var"]
        return (z - mean) / torch.sqrt(variance + 1e-5) * state[name + "weight"] + state[name + "bias"]

    def branch(i, z):
        if spec.family == "b-mlp":
            return linear(f"blocks.{i}.block.2", sigma(linear(f"blocks.{i}.block.0", z)))
        if spec.official_order:
            return linear(f"layers.{i}", sigma(z))
        return sigma(linear(f"layers.{i}", z))

    z = linear("linear_in", images.reshape(len(images), -1))
    for i in range(spec.depth):
        passed = spec.skip * z
        if spec.norm_position == "pre":
            z = passed + branch(i, norm(i, z))
        else:
            z = norm(i, passed + branch(i, z))
    return linear("linear_out", z)


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


def test_the_cnns_macs_follow_the_formula():
    sides, channels = (16, 8, 8, 4), (3, 32, 64, 128, 256)
    convolutions = sum(9 * a * b * s * s for a, b, s in zip(channels, channels[1:], sides, strict=False))
    model = meta_model(ModelSpec("small-cnn"), (32, 32, 3), 10)
    assert count_macs(model, (32, 32, 3)) == convolutions + 256 * 10


def test_counting_needs_no_memory_and_leaves_the_model_alone():
    model = build_model(dataclasses.replace(B, norm="batch", dropout=0.5), SHAPE, CLASSES, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    macs = count_macs(model, SHAPE)
    assert macs == count_macs(model.eval(), SHAPE) == count_macs(meta_model(B, SHAPE, CLASSES), SHAPE)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    enormous = meta_model(ModelSpec.parse("B-100/Wi-100000"), (64, 64, 3), 10)
    assert count_parameters(enormous) > 8 * 10**12


def test_frozen_parameters_do_not_count():
    model = build_model(S, SHAPE, CLASSES)
    whole = count_parameters(model)
    model.linear_out.requires_grad_(False)
    assert count_parameters(model) == whole - (8 * CLASSES + CLASSES)


# --------------------------------------------------------------------------- official checkpoints


def official_state(family, depth, width=8, expansion=4, norm="layer", classes=CLASSES, side=4, seed=0):
    """A state dict as the official code saves it, written down from its names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"linear_in": (width, 3 * side * side), "linear_out": (classes, width)}
    for i in range(depth):
        if family == "b-mlp":
            sizes[f"blocks.{i}.block.0"] = (expansion * width, width)
            sizes[f"blocks.{i}.block.2"] = (width, expansion * width)
        else:
            sizes[f"layers.{i}"] = (width, width)
    state = {}
    for name, (rows, columns) in sizes.items():
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) / columns**0.5
        state[f"{name}.bias"] = torch.randn(rows, generator=generator)
    for i in range(depth if norm != "none" else 0):
        statistics = ("running_mean", "running_var") if norm == "batch" else ()
        for name in ("weight", "bias", *statistics):
            state[f"layernorms.{i}.{name}"] = torch.rand(width, generator=generator) + 0.5
        if norm == "batch":
            state[f"layernorms.{i}.num_batches_tracked"] = torch.tensor(7)
    return state


OFFICIAL = [
    ("b-mlp", 1, dict()),
    ("b-mlp", 13, dict(width=6)),
    ("b-mlp", 2, dict(expansion=2, classes=11, side=8)),
    ("b-mlp", 2, dict(norm="batch")),
    ("b-mlp", 2, dict(norm="none")),
    ("s-mlp", 1, dict()),
    ("s-mlp", 12, dict(width=16, side=5)),
]


@pytest.mark.parametrize("family, depth, sizes", OFFICIAL, ids=str)
def test_official_checkpoints_load_and_save_with_the_official_logits(family, depth, sizes, tmp_path):
    state = official_state(family, depth, **sizes)
    torch.save(state, tmp_path / "official")
    before = torch.get_rng_state()
    spec, model = load_official(tmp_path / "official")
    assert torch.equal(before, torch.get_rng_state()), "loading must not draw random numbers"

    side = sizes.get("side", 4)
    assert (spec.family, spec.depth, spec.width) == (family, depth, sizes.get("width", 8))
    assert (spec.norm, spec.expansion) == (sizes.get("norm", "layer"), sizes.get("expansion", 4))
    assert model.spec == spec and model.classes == sizes.get("classes", CLASSES)
    assert model.image_shape == (side, side, 3)

    official = dataclasses.replace(spec, activation="gelu", norm_position="pre", skip=family == "b-mlp")
    images = pixels(shape=model.image_shape)
    model.eval()
    torch.testing.assert_close(model(images), reference(state, official, images), rtol=1e-4, atol=1e-5)

    save_official(model, tmp_path / "ours")
    ours = torch.load(tmp_path / "ours", weights_only=True)
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name], state[name]) for name in state)
    again, _ = load_official(tmp_path / "ours")
    assert again == spec


def test_half_precision_checkpoints_become_float32(tmp_path):
    state = {name: tensor.half() for name, tensor in official_state("b-mlp", 2).items()}
    torch.save(state, tmp_path / "half")
    _, model = load_official(tmp_path / "half")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.linear_in.weight, state["linear_in.weight"].float())


def test_dropout_does_not_hinder_official_saving(tmp_path):
    model = build_model(dataclasses.replace(B, dropout=0.3), SHAPE, CLASSES, seed=0).eval()
    save_official(model, tmp_path / "w")
    assert torch.equal(load_official(tmp_path / "w")[1].eval()(pixels()), model(pixels()))


@pytest.mark.parametrize(
    "spec, shape, message",
    [
        (dataclasses.replace(B, activation="relu"), SHAPE, "activation 'relu'"),
        (dataclasses.replace(B, norm_position="post"), SHAPE, "norm_position 'post'"),
        (dataclasses.replace(B, skip=False), SHAPE, "skip False"),
        (dataclasses.replace(OFFICIAL_S, official_order=False), SHAPE, "official_order False"),
        (dataclasses.replace(OFFICIAL_S, skip=True), SHAPE, "skip True"),
        (B, (2, 8, 3), r"square images only, not \(2, 8, 3\)"),
        (B, (2, 5, 3), "no square image"),
        (ModelSpec("small-cnn"), SHAPE, "only S-MLPs and B-MLPs have an official form"),
    ],
    ids=lambda value: value.family if isinstance(value, ModelSpec) else None,
)
def test_what_the_official_code_lacks_is_not_saved_as_official(spec, shape, message, tmp_path):
    with pytest.raises(MlplibError, match=message):
        save_official(build_model(spec, shape, CLASSES), tmp_path / "w")
    assert os.listdir(tmp_path) == []


def without(state, name):
    return {n: t for n, t in state.items() if n != name}


GOOD = official_state("b-mlp", 2)
GOOD_S = official_state("s-mlp", 2)
BAD_STATES = {
    "empty": ({}, "lacks linear_in.weight"),
    "no head": (without(GOOD, "linear_out.weight"), "lacks linear_out.weight"),
    "no blocks": ({n: t for n, t in GOOD.items() if "blocks" not in n}, "lacks layers.0.weight"),
    "no first block": (without(GOOD, "blocks.0.block.0.weight"), "lacks blocks.0.block.0.weight"),
    "a gap": (
        {n.replace("blocks.2", "blocks.7"): t for n, t in official_state("b-mlp", 3).items()},
        "lacks blocks.2.block.0.weight",
    ),
    "a bias less": (without(GOOD, "blocks.1.block.2.bias"), "lacks blocks.1.block.2.bias"),
    "a norm less": (without(GOOD, "layernorms.1.weight"), "lacks layernorms.1.weight"),
    "a name more": ({**GOOD, "extra.weight": torch.ones(2)}, "unknown extra.weight"),
    "a norm more": ({**GOOD_S, "layernorms.2.weight": torch.ones(8)}, "unknown layernorms.2.weight"),
    "both kinds": ({**GOOD, "layers.0.weight": torch.ones(8, 8)}, "unknown layers.0.weight"),
    "wrong width": ({**GOOD, "blocks.1.block.0.weight": torch.ones(32, 9)}, r"is \(32, 9\), not \(32, 8\)"),
    "other width": ({**GOOD, "blocks.0.block.0.weight": torch.ones(32, 16)}, r"is \(32, 16\), not \(16, 8\)"),
    "wrong bias": ({**GOOD, "linear_out.bias": torch.ones(6)}, r"linear_out.bias is \(6,\), not \(5,\)"),
    "no expansion": ({**GOOD, "blocks.0.block.0.weight": torch.ones(33, 8)}, "33 x 8: no whole expansion"),
    "no square": ({**GOOD, "linear_in.weight": torch.ones(8, 30)}, "30 numbers: no square image"),
    "no matrix": ({**GOOD, "linear_in.weight": torch.ones(8)}, r"linear_in.weight is \(8,\), not a matrix"),
    "no pixels": ({**GOOD, "linear_in.weight": torch.ones(8, 0)}, r"is \(8, 0\), not a matrix"),
    "integers": ({**GOOD, "linear_out.bias": torch.ones(5).long()}, "linear_out.bias holds torch.int64"),
}


@pytest.mark.parametrize("state, message", BAD_STATES.values(), ids=BAD_STATES)
def test_wrong_names_and_shapes_are_an_error_in_one_line(state, message, tmp_path):
    path = tmp_path / "w"
    torch.save(state, path)
    with pytest.raises(MlplibError, match=message) as caught:
        load_official(path)
    assert str(caught.value).startswith(f"checkpoint {path} is not an official S-MLP or B-MLP: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": GOOD}, {"epoch": 3, **GOOD}, {3: torch.ones(2)}, torch.ones(3)], ids=type
)
def test_files_with_something_else_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "w")
    with pytest.raises(MlplibError, match="is not a state dict of names and tensors"):
        load_official(tmp_path / "w")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    torch.save({"linear_in.weight": Evil()}, tmp_path / "w")
    with pytest.raises(MlplibError, match="cannot be read") as caught:
        load_official(tmp_path / "w")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["w"]


def test_missing_and_damaged_files_are_an_error_in_one_line(tmp_path):
    path = tmp_path / "w"
    for missing in (path, tmp_path):
        with pytest.raises(MlplibError, match=f"^no checkpoint {missing}"):
            load_official(missing)
    torch.save(GOOD, path)
    whole = path.read_bytes()
    damaged = [whole[: len(whole) * part // 8] for part in range(8)]
    damaged += [b"hello", b"\x80\x02garbage", b"PK" + whole]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(MlplibError, match=f"^checkpoint {path} cannot be read") as caught:
            load_official(path)
        assert "\n" not in str(caught.value)
