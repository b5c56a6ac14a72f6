"""Baselines: networks with an inductive bias for images, to compare the MLPs with."""

from __future__ import annotations

import math

from torch import Tensor, nn

from .errors import MlplibError, Refused

STAGES = ((32, 2), (64, 2), (128, 1), (256, 2))
"""Channels and stride of each 3x3 convolution of the small CNN."""

GROUPS = 8
"""Groups of the small CNN's GroupNorm."""

SMALL_IMAGE = 64
"""Images up to this side in pixels get ResNet18's stem for small images."""

WITH_BATCH_NORM = ("resnet18", "resnet152")
"""Networks with BatchNorm: their training step needs the whole batch at once."""

VIT_B = {"embed_dim": 768, "depth": 12, "num_heads": 12}
MIXER_B = {"embed_dim": 768, "num_blocks": 12}
"""Size "B" of the two papers. The number after the slash in a name is the side of a patch in pixels."""


class ImageNetwork(nn.Module):
    """A body that computes features of images, and a linear head that maps them to logits.

    Args:
        body: float images (B, channels, H, W) to features (B, ``width``).
        image_shape: (H, W, channels).
    """

    def __init__(
        self, name: str, body: nn.Module, width: int, image_shape: tuple[int, int, int], classes: int
    ):
        super().__init__()
        self.name, self.image_shape, self.classes = name, tuple(image_shape), classes
        self.body = body
        self.linear_out = nn.Linear(width, classes)

    def features(self, images: Tensor) -> Tensor:
        """The head's input, (B, width), for images as in :meth:`forward`."""
        _check_images(self.name, images, self.image_shape)
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of normalized float images (B, channels, H, W).

        Raises:
            MlplibError: the images have another size.
        """
        return self.linear_out(self.features(images))


def _check_images(name: str, images: Tensor, image_shape: tuple[int, int, int]) -> None:
    height, width, channels = image_shape
    if images.ndim != 4 or images.shape[1:] != (channels, height, width):
        raise MlplibError(
            f"{name} takes images (B, {channels}, {height}, {width}), not {tuple(images.shape)}"
        )


class SmallCNN(nn.Module):
    """Four blocks of 3x3 convolution, GroupNorm and GELU, then global average pooling and a linear head.

    It is local and translation-equivariant: the inductive bias that an MLP lacks (claim C22, paper
    Section 2). With GroupNorm instead of BatchNorm, an image's logits depend on that image alone, as in the
    MLPs, and a batch can be split without changing its gradients. 391,000 parameters, 11 M MACs at 32x32.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        self.image_shape, self.classes = tuple(image_shape), classes
        blocks, before = [], image_shape[2]
        for after, stride in STAGES:
            # No bias: the norm that follows has its own.
            convolution = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
            blocks.append(nn.Sequential(convolution, nn.GroupNorm(GROUPS, after), nn.GELU()))
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.linear_out = nn.Linear(before, classes)

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations (B, 256) of float images (B, 3, H, W): the head's input."""
        _check_images("the small CNN", images, self.image_shape)
        return self.blocks(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of normalized float images (B, 3, H, W)."""
        return self.linear_out(self.features(images))

    def layer_macs(self) -> list[int]:
        """Multiply-adds of every layer for one image, the first convolution's first."""
        (height, width, _), found = self.image_shape, []
        for block, (_, stride) in zip(self.blocks, STAGES, strict=True):
            height, width = math.ceil(height / stride), math.ceil(width / stride)
            found.append(height * width * block[0].weight.numel())
        return [*found, self.linear_out.weight.numel()]


def resnet18(image_shape: tuple[int, int, int], classes: int) -> ImageNetwork:
    """torchvision's ResNet18 (https://arxiv.org/abs/1512.03385), with the usual stem for the image size.

    Neither the paper nor its code says which stem its ResNet18 has. For images up to 64x64 we use the common
    one: a 3x3 first convolution with stride 1, and no max-pooling. Larger images get ImageNet's stem.
    11.2 million parameters and 0.56 G MACs for CIFAR-10.
    """
    body = _resnet("resnet18", image_shape)
    if max(image_shape[:2]) <= SMALL_IMAGE:
        first = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
        body.conv1, body.maxpool = first, nn.Identity()
    return _with_head("resnet18", body, image_shape, classes)


def resnet152(image_shape: tuple[int, int, int], classes: int) -> ImageNetwork:
    """torchvision's ResNet-152 for 64x64 images, without the first stride and the max-pooling (Table 9).

    The first convolution stays 7x7. 58.1 million parameters without the head, 15 G MACs at 64x64.
    """
    body = _resnet("resnet152", image_shape)
    body.conv1.stride = (1, 1)
    body.maxpool = nn.Identity()
    return _with_head("resnet152", body, image_shape, classes)


def _resnet(name: str, image_shape: tuple[int, int, int]) -> nn.Module:
    import torchvision  # imported late: it takes a second, which MLPs do not need

    if image_shape[2] != 3:
        raise Refused(f"{name} takes images of 3 channels, not {image_shape[2]}")
    return torchvision.models.get_model(name, weights=None)


def _with_head(name: str, body: nn.Module, image_shape: tuple[int, int, int], classes: int) -> ImageNetwork:
    width = body.fc.in_features
    body.fc = nn.Identity()
    return ImageNetwork(name, body, width, image_shape, classes)


def vit_b(patch: int, image_shape: tuple[int, int, int], classes: int) -> ImageNetwork:
    """timm's ViT-B (https://arxiv.org/abs/2010.11929) on patches of ``patch`` pixels a side.

    It has a class token and no dropout. With the head, 86 million parameters; at 64x64, 23 G MACs with
    patches of side 4, and 5.6 G with patches of side 8.
    """
    return _of_patches(f"vit-b/{patch}", "VisionTransformer", VIT_B, patch, image_shape, classes)


def mixer_b(patch: int, image_shape: tuple[int, int, int], classes: int) -> ImageNetwork:
    """timm's Mixer-B (https://arxiv.org/abs/2105.01601) on patches of ``patch`` pixels a side.

    Regardless of the number of patches, token mixing has half the width (384) as hidden units, and channel
    mixing four times the width.
    """
    return _of_patches(f"mixer-b/{patch}", "MlpMixer", MIXER_B, patch, image_shape, classes)


def _of_patches(
    name: str, kind: str, size: dict, patch: int, image_shape: tuple[int, int, int], classes: int
) -> ImageNetwork:
    height, width, channels = image_shape
    if height % patch or width % patch:
        raise Refused(f"{name} cuts images into patches of {patch} pixels: {height}x{width} is no multiple")
    try:
        import timm
    except ImportError:
        raise MlplibError(f'{name} needs the package timm: pip install -e ".[study]"') from None
    body = getattr(timm.models, kind)(
        img_size=(height, width), patch_size=patch, in_chans=channels, num_classes=0, **size
    )
    return ImageNetwork(name, body, size["embed_dim"], image_shape, classes)


def activation_bytes(family: str, image_shape: tuple[int, int, int]) -> int:
    """A rough upper bound on the bytes of float32 activations kept per image for the backward pass.

    ``family`` names one of the networks above, except those in :data:`WITH_BATCH_NORM`, whose batches are
    never split.
    """
    height, width, _ = image_shape
    if family == "small-cnn":
        return 4 * height * width * 512
    patch = int(family.rpartition("/")[2])
    patches = (height // patch) * (width // patch)
    # Numbers that each block keeps per patch, in units of the width. Mixer's token mixing also keeps its
    # hidden units (half a width) twice.
    kept = 17 * (patches + 1) if family.startswith("vit") else 13 * patches + MIXER_B["embed_dim"]
    return 4 * VIT_B["embed_dim"] * VIT_B["depth"] * kept
