"""The networks that the MLPs are held against: their sizes, their stems, their memory, what they refuse."""

import builtins
import functools

import pytest
import torch
import torch.nn.functional as F

from mlplib import baselines, memory
from mlplib.errors import MlplibError
from mlplib.models import build_model, count_macs, count_parameters, meta_model
from mlplib.specs import BASELINES, DataSpec, ModelSpec, TrainSpec

COMPARED = ("resnet18", "resnet152", "vit-b/4", "vit-b/8", "mixer-b/4")
BATCH_NORM = ("resnet18", "resnet152")
CPU = torch.device("cpu")


def made(name, side, classes=1000):
    return meta_model(ModelSpec.parse(name), (side, side, 3), classes)


# --------------------------------------------------------------------------- size and cost


def test_every_baseline_is_under_test():
    assert set(BASELINES) == {"small-cnn", *COMPARED}


@pytest.mark.parametrize(
    "network, side, million_parameters, giga_macs",
    [
        # As published with ImageNet's head, on ImageNet's images: torchvision's and timm's tables of models.
        (baselines.resnet18, 224, 11.689512, 1.814),
        (functools.partial(baselines.vit_b, 16), 224, 86.567656, 17.56),
        (functools.partial(baselines.mixer_b, 16), 224, 59.880472, 12.60),
    ],
    ids=["resnet18", "vit-b/16", "mixer-b/16"],
)
def test_known_networks_have_their_known_size(network, side, million_parameters, giga_macs):
    with torch.device("meta"):
        model = network((side, side, 3), 1000)
    assert count_parameters(model) == round(million_parameters * 1e6)
    assert count_macs(model, (side, side, 3)) / 1e9 == pytest.approx(giga_macs, abs=0.01)


def convolutions(first, blocks, sides, expand):
    """MACs of a ResNet's convolutions by its paper's Table 1: bottlenecks with ``expand`` 4, pairs with 1."""
    macs, before = first, 64
    for stage, (count, side) in enumerate(zip(blocks, sides, strict=True)):
        width = 64 * 2**stage
        for block in range(count):
            strided = stage > 0 and block == 0
            inside = (2 * side if strided else side) ** 2  # before the stride
            after = expand * width
            if expand == 4:  # the stride is the 3x3 convolution's
                macs += before * width * inside + 9 * width**2 * side**2 + width * after * side**2
            else:
                macs += 9 * before * width * side**2 + 9 * width**2 * side**2
            if block == 0 and before != after:
                macs += before * after * side**2
            before = after
    return macs


def test_resnet18_for_cifar_has_the_stem_for_small_images():
    macs = convolutions(27 * 64 * 32**2, (2, 2, 2, 2), (32, 16, 8, 4), expand=1) + 512 * 10
    assert count_macs(made("resnet18", 32, 10), (32, 32, 3)) == macs
    assert count_parameters(made("resnet18", 32)) == 11_689_512 - 64 * 3 * (49 - 9)
    assert made("resnet18", 64).body.conv1.stride == (1, 1)
    assert made("resnet18", 96).body.conv1.stride == (2, 2)


def test_resnet152_keeps_the_full_size_up_to_its_first_blocks():
    macs = convolutions(147 * 64 * 64**2, (3, 8, 36, 3), (64, 32, 16, 8), expand=4) + 2048 * 1000
    assert count_macs(made("resnet152", 64), (64, 64, 3)) == macs
    assert count_parameters(made("resnet152", 64)) == 60_192_808  # neither change takes a parameter


@pytest.mark.parametrize("patch", [4, 8])
def test_vit_b_follows_its_formulas(patch):
    d, depth, patches, pixels = 768, 12, (64 // patch) ** 2, 3 * patch**2
    tokens = patches + 1
    macs = patches * pixels * d + depth * (12 * tokens * d**2 + 2 * tokens**2 * d) + d * 1000
    assert count_macs(made(f"vit-b/{patch}", 64), (64, 64, 3)) == macs
    ends = pixels * d + d + tokens * d + d + 2 * d + d * 1000 + 1000
    assert count_parameters(made(f"vit-b/{patch}", 64)) == ends + depth * (12 * d**2 + 13 * d)


def test_mixer_b_follows_its_formulas():
    d, hidden, depth, patches = 768, 384, 12, 256
    macs = patches * 48 * d + depth * (2 * patches * hidden * d + 8 * patches * d**2) + d * 1000
    assert count_macs(made("mixer-b/4", 64), (64, 64, 3)) == macs
    between = 2 * patches * hidden + hidden + patches
    channels = 8 * d**2 + 5 * d
    ends = 48 * d + d + 2 * d + d * 1000 + 1000
    assert count_parameters(made("mixer-b/4", 64)) == ends + depth * (between + channels + 4 * d)


# --------------------------------------------------------------------------- building and training


@pytest.mark.parametrize("name", ["resnet18", "vit-b/4", "mixer-b/4"])
def test_a_comparison_network_trains(name):
    model = build_model(ModelSpec.parse(name), (8, 8, 3), 5, seed=1)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = model(images)
    assert logits.shape == (4, 5) and logits.dtype == torch.float32
    assert torch.equal(logits, model(images)) or name == "resnet18", "nothing random while training"
    F.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert next(iter(model.parameters())).grad.abs().sum() > 0
    torch.testing.assert_close(model.linear_out(model.features(images)), model(images))
    again = build_model(ModelSpec.parse(name), (8, 8, 3), 5, seed=1)
    fresh = dict(again.named_parameters())
    torch.testing.assert_close(again.eval()(images), again.eval()(images))
    assert all(torch.equal(fresh[key], value) for key, value in model.named_parameters())


@pytest.mark.parametrize("name", COMPARED)
def test_other_images_are_refused_in_one_line(name):
    with pytest.raises(MlplibError, match=rf"{name} takes images \(B, 3, 16, 16\)"):
        made(name, 16)(torch.empty(2, 3, 8, 8, device="meta"))


def test_what_cannot_be_built_is_one_line():
    with pytest.raises(MlplibError, match="vit-b/8 cuts images into patches of 8 pixels: 12x12"):
        made("vit-b/8", 12)
    with pytest.raises(MlplibError, match="resnet18 takes images of 3 channels, not 1"):
        meta_model(ModelSpec.parse("resnet18"), (8, 8, 1), 10)


def test_without_timm_the_rest_works(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.partition(".")[0] == "timm":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert count_parameters(made("resnet18", 32)) > 0
    for name in ("vit-b/4", "mixer-b/4"):
        with pytest.raises(MlplibError, match=rf"^{name} needs the package timm: pip install .*\[study\]"):
            made(name, 16)


def test_names_make_clean_slugs():
    for name in COMPARED:
        spec = TrainSpec(ModelSpec.parse(name), DataSpec("shapes-16"), epochs=1, batch_size=8)
        assert spec.model.name == name
        assert all(c.isalnum() or c == "-" for c in spec.slug()), spec.slug()


# --------------------------------------------------------------------------- memory


@pytest.mark.parametrize("name", BATCH_NORM)
def test_batches_of_networks_with_batchnorm_are_not_split(name):
    model = ModelSpec.parse(name)
    assert memory.pick_micro_batch(model, 2**31, (64, 64, 3), CPU, None) == 2**31
    with pytest.raises(MlplibError, match="BatchNorm and dropout need whole batches"):
        memory.pick_micro_batch(model, 64, (64, 64, 3), CPU, 32)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in made(name, 32).modules())


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in BATCH_NORM])
def test_the_others_are_split_where_memory_asks_for_it(name):
    model = ModelSpec.parse(name)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in made(name, 32).modules())
    assert 1 <= memory.pick_micro_batch(model, 2**31, (64, 64, 3), CPU, None) < 2**31
    assert memory.pick_micro_batch(model, 64, (64, 64, 3), CPU, 10) == 10


@pytest.mark.parametrize(
    "name, side, slack, most",
    [
        *((name, 16, 1.05, 10) for name in ("B-3/Wi-64", "S-3/Wi-64", "small-cnn")),
        *(
            (*network, 1, 1.5)
            for network in [("vit-b/4", 16), ("vit-b/8", 32), ("mixer-b/4", 16), ("mixer-b/4", 32)]
        ),
    ],
)
def test_the_estimate_of_activations_is_an_upper_bound(name, side, slack, most):
    spec, kept = ModelSpec.parse(name), {}
    model = build_model(spec, (side, side, 3), 10)
    weights = {p.data_ptr() for p in model.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(2, 3, side, side)).sum()
    used = sum(kept.values()) / 2
    assert used < slack * memory.activation_bytes(spec, (side, side, 3)) < most * used
