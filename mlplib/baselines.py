"""Networks with an inductive bias for images, to hold the MLPs against."""

from __future__ import annotations

from torch import Tensor, nn

from .errors import MlplibError

STAGES = ((32, 2), (64, 2), (128, 1), (256, 2))
"""Channels and stride of each 3x3 convolution of the small CNN."""

GROUPS = 8
"""Groups of the small CNN's GroupNorm."""


class SmallCNN(nn.Module):
    """Four blocks of 3x3 convolution, GroupNorm and GELU, then global average pooling and a linear head.

    It looks at neighboring pixels only and treats every place alike, the bias that an MLP lacks
    (claim C22, paper Section 2). GroupNorm, not BatchNorm: an image's logits then depend on that image
    alone, as in the MLPs, and a batch can be split without changing its gradients.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        self.image_shape, self.classes = tuple(image_shape), classes
        blocks, before = [], image_shape[2]
        for after, stride in STAGES:
            blocks.append(_conv_block(before, after, stride))
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.linear_out = nn.Linear(before, classes)

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations (B, 256) of float images (B, 3, H, W): what the head reads."""
        height, width, channels = self.image_shape
        if images.ndim != 4 or images.shape[1:] != (channels, height, width):
            raise MlplibError(
                f"the small CNN takes images (B, {channels}, {height}, {width}), not {tuple(images.shape)}"
            )
        return self.blocks(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of normalized float images (B, 3, H, W)."""
        return self.linear_out(self.features(images))


def _conv_block(before: int, after: int, stride: int) -> nn.Sequential:
    # No bias: the norm that follows has one.
    convolution = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(GROUPS, after), nn.GELU())


def small_cnn(image_shape: tuple[int, int, int], classes: int) -> SmallCNN:
    """The small CNN for images of (height, width, channels): 391,000 parameters, 11 M MACs at 32x32."""
    return SmallCNN(image_shape, classes)
