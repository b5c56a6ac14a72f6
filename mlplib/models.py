"""The paper's networks, S-MLP and B-MLP (Section 3).

Parameters carry the names of the official code (https://github.com/gregorbachmann/scaling_mlps), so that
its state dicts load strictly here (:mod:`mlplib.official`) and ours load there. Weights start at PyTorch's
defaults, as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .baselines import SmallCNN, mixer_b, resnet18, resnet152, vit_b
from .errors import MlplibError
from .gelu import GELU
from .machine import seeded
from .specs import ModelSpec


class LayerNorm(nn.LayerNorm):
    """:class:`torch.nn.LayerNorm` in the precision of its weights, as autocast has it on GPUs.

    On CPUs autocast leaves it in bf16, where PyTorch adds up the gradients of weight and bias in bf16, too:
    8 % wrong over 4,096 images (``findings/torch-layernorm-gradients-stop-at-256.sh``).
    """

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.to(self.weight.dtype))


NORMS = {"layer": LayerNorm, "batch": nn.BatchNorm1d, "none": nn.Identity}
ACTIVATIONS = {"gelu": GELU, "relu": nn.ReLU}


# --------------------------------------------------------------------------- the networks


class ImageMLP(nn.Module):
    """Base of both MLPs: pixels, ``linear_in``, ``depth`` blocks of width m, ``linear_out``, logits.

    A block is ``z -> f(norm(z))``, or ``z -> norm(f(z))`` where the spec says post-norm; with a skip
    connection ``z -> z + f(norm(z))`` or ``z -> norm(z + f(z))``. The subclass says what f is. No norm
    follows the last pre-norm block.
    """

    def __init__(self, spec: ModelSpec, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        self.spec, self.image_shape, self.classes = spec, tuple(image_shape), classes
        # Created in the official code's order, so that a seed gives the same weights in both.
        self.linear_in = nn.Linear(math.prod(image_shape), spec.width)
        self.linear_out = nn.Linear(spec.width, classes)

    def _branch(self, index: int, z: Tensor) -> Tensor:
        raise NotImplementedError

    def _block(self, index: int, norm: nn.Module, z: Tensor) -> Tensor:
        pre = self.spec.norm_position == "pre"
        out = self._branch(index, norm(z) if pre else z)
        if self.spec.skip:
            out = z + out
        return out if pre else norm(out)

    def features(self, images: Tensor) -> Tensor:
        """Activations (B, width) that the head reads, for images as in :meth:`forward`."""
        z = self.linear_in(_flatten(images, self.image_shape))
        for index, norm in enumerate(self.layernorms):
            z = self._block(index, norm, z)
        return z

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of normalized float images (B, 3, H, W), or the same flattened to (B, 3 H W).

        Raises:
            MlplibError: the images have another size.
        """
        return self.linear_out(self.features(images))

    def layer_macs(self) -> list[int]:
        """Multiply-adds of every layer for one image, ``linear_in`` first: each weight is used once."""
        return [layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear)]


class StandardMLP(ImageMLP):
    """S-MLP: f(z) = sigma(W z), W m x m (paper Section 3), or f(z) = W sigma(z) in the official order.

    ``depth`` counts blocks, each with one W, as it does for a B-MLP; the embedding and the head come on
    top. The official command line counts the embedding too: its depth 6 is depth 5 here. The paper's
    "6 x 2048" is read as six blocks: with the 11,230-class head they hold 73 M parameters, next to the
    74 M of the B-6/Wi-1024 they are compared with. Dropout, which the paper uses only in B-MLPs, applies to
    the output of f.
    """

    def __init__(self, spec: ModelSpec, image_shape: tuple[int, int, int], classes: int):
        super().__init__(spec, image_shape, classes)
        self.layers = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(spec.depth))
        self.layernorms = nn.ModuleList(NORMS[spec.norm](spec.width) for _ in range(spec.depth))
        self.activation = ACTIVATIONS[spec.activation]()
        self.dropout = nn.Dropout(spec.dropout)

    def _branch(self, index: int, z: Tensor) -> Tensor:
        layer = self.layers[index]
        out = layer(self.activation(z)) if self.spec.official_order else self.activation(layer(z))
        return self.dropout(out)


class BottleneckMLP(ImageMLP):
    """B-MLP: f(z) = W_c sigma(W_e z), W_e: m -> k m, W_c: k m -> m (paper Section 3, Appendix D).

    k is the spec's ``expansion``, 4 in the paper.
    """

    def __init__(self, spec: ModelSpec, image_shape: tuple[int, int, int], classes: int):
        super().__init__(spec, image_shape, classes)
        self.blocks = nn.ModuleList(BottleneckBlock(spec) for _ in range(spec.depth))
        self.layernorms = nn.ModuleList(NORMS[spec.norm](spec.width) for _ in range(spec.depth))

    def _branch(self, index: int, z: Tensor) -> Tensor:
        return self.blocks[index](z)


class BottleneckBlock(nn.Module):
    """Expand, activate, contract, (B, m) -> (B, m); dropout after both linear maps (Appendix D)."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        wide = spec.expansion * spec.width
        # In the official names the linear maps have indices 0 and 2, so the first dropout shares index 1.
        self.block = nn.Sequential(
            nn.Linear(spec.width, wide),
            nn.Sequential(ACTIVATIONS[spec.activation](), nn.Dropout(spec.dropout)),
            nn.Linear(wide, spec.width),
            nn.Dropout(spec.dropout),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.block(z)


def _flatten(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    height, width, channels = image_shape
    if tuple(images.shape[1:]) not in ((channels, height, width), (channels * height * width,)):
        raise MlplibError(
            f"the model takes images (B, {channels}, {height}, {width}) or (B, {channels * height * width}), "
            f"not {tuple(images.shape)}"
        )
    return images.flatten(1)


# --------------------------------------------------------------------------- building


BUILDERS: dict[str, Callable[[ModelSpec, tuple[int, int, int], int], nn.Module]] = {
    "b-mlp": BottleneckMLP,
    "s-mlp": StandardMLP,
    "small-cnn": lambda spec, *of: SmallCNN(*of),
    "resnet18": lambda spec, *of: resnet18(*of),
    "resnet152": lambda spec, *of: resnet152(*of),
    "vit-b/4": lambda spec, *of: vit_b(4, *of),
    "vit-b/8": lambda spec, *of: vit_b(8, *of),
    "mixer-b/4": lambda spec, *of: mixer_b(4, *of),
}
"""The builder of every model family."""


def build_model(
    spec: ModelSpec, image_shape: tuple[int, int, int], classes: int, seed: int | None = None
) -> nn.Module:
    """Build the network of ``spec`` in float32, with logits (B, classes).

    Args:
        image_shape: (height, width, channels) of the images, which the network takes as (B, channels,
            height, width).
        seed: draws the initial weights on the CPU, independently of torch's global generators, which
            stay untouched; ``None`` draws from the global generator, on torch's current default device.

    Raises:
        MlplibError: a size below 1.
    """
    sizes = (*image_shape, classes)
    if len(sizes) != 4 or not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise MlplibError(
            "a model needs (height, width, channels) and a number of classes, all at least 1, "
            f"not {image_shape!r} and {classes!r}"
        )
    builder = BUILDERS[spec.family]
    if seed is None:
        return builder(spec, image_shape, classes)
    with seeded(seed):
        return builder(spec, image_shape, classes)


def meta_model(spec: ModelSpec, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of ``spec`` on torch's ``meta`` device, without memory: for counts and shapes."""
    with torch.device("meta"):
        return build_model(spec, image_shape, classes)


# --------------------------------------------------------------------------- size and cost


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters of the model, including the head; works on a :func:`meta_model`, too.

    Table 5 of the paper gives this for 64x64 images and ImageNet-21k's 11,230 classes, truncated to millions.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_macs(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of one image's forward pass through a :func:`meta_model`.

    Matrix products and convolutions count (:mod:`torch.utils.flop_counter`); norms, activations and
    biases do not. One multiply-add is one MAC and two FLOPs: the paper's code counts MACs where its text
    says FLOPs.
    """
    if isinstance(model, ImageMLP | SmallCNN):
        # Torch's counter gives the same number (tested), but it imports torch's compiler, which takes 2 s in
        # every process that plans or trains.
        return sum(model.layer_macs())
    height, width, channels = image_shape
    # Two images: in training mode BatchNorm refuses a single one.
    images = torch.empty(2, channels, height, width, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() // (2 * 2)


def executed_flops(model: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """FLOPs per image of one training step through a :func:`meta_model`, forward and backward.

    Slightly below the usual ``3 x forward``, since the first layer needs no gradient for its input.
    Normalization and activations are not counted.
    """
    if isinstance(model, ImageMLP | SmallCNN):
        first, *others = model.layer_macs()
        return 2.0 * (2 * first + 3 * sum(others))
    height, width, channels = image_shape
    images = torch.empty(2, channels, height, width, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return counter.get_total_flops() / 2
