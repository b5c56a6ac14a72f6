#!/usr/bin/env bash
# PyTorch 2.15.0: FlopCounterMode counts the backward pass of a depthwise convolution as if it were a dense one.
# Expected: a training step costs at most three forward passes, one for each gradient. Seen: 2.9 of ResNet-18, 3.0 of
# ViT-B/16, but 20 of MobileNetV2 and 42 of EfficientNet-B0. The counter's formula for the gradient of the weights
# leaves out `groups`: it multiplies with the number of groups. The forward pass and the other gradient are right. Eight
# convolutions of one channel each, which compute the same outputs and gradients, are counted right.
# The manual does not say so. It was noticed: pull request 183405 of pytorch/pytorch (May 2026) divides by the groups.
# It matters to a comparison of networks by the compute of their training, and to "model FLOPs utilization", which can
# come out above 100%: of two networks with equal forward passes, the one with grouped convolutions seems to be slower
# and more expensive to train, by an order of magnitude.
# Needs about 6 GB for torch while it runs; computes nothing but shapes.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > flops.py << 'PYTHON'
import sys

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

CHANNELS = 8


def counted(function, *arguments):
    with FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


def step(network, images):
    network(images).sum().backward()


def ratio(name):
    """How many forward passes a training step of a network of torchvision is counted as."""
    network, images = get_model(name).to("meta"), torch.empty(2, 3, 224, 224, device="meta")
    return counted(step, network, images) / counted(network, images)


class Apart(nn.Module):
    """What a depthwise convolution computes, as one convolution per channel."""

    def __init__(self, whole):
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(1, 1, 3, bias=False) for _ in range(CHANNELS))
        for part, weight in zip(self.parts, whole.weight, strict=True):
            part.weight.data = weight[None].detach().clone()

    def forward(self, images):
        return torch.cat([part(one) for part, one in zip(self.parts, images.split(1, dim=1), strict=True)], dim=1)


print(f"PyTorch {torch.__version__.partition('+')[0]}: a training step in forward passes, by FlopCounterMode")
ratios = {name: ratio(name) for name in ("resnet18", "vit_b_16", "resnext50_32x4d", "mobilenet_v2", "efficientnet_b0")}
for name, found in ratios.items():
    print(f"{name}: {found:.1f}")

whole = nn.Conv2d(CHANNELS, CHANNELS, 3, groups=CHANNELS, bias=False)
apart = Apart(whole)
images = torch.randn(4, CHANNELS, 16, 16).requires_grad_()
flops = {network: (counted(network, images), counted(step, network, images)) for network in (whole, apart)}
same = torch.allclose(whole(images), apart(images), atol=1e-5)
same &= torch.allclose(whole.weight.grad, torch.cat([part.weight.grad for part in apart.parts]), rtol=1e-3, atol=1e-3)
print(f"one depthwise convolution and {CHANNELS} of one channel have the same outputs and gradients: {same}")
print("FLOPs of a forward pass: {:,} and {:,}".format(*(flops[network][0] for network in (whole, apart))))
print("FLOPs of a training step: {:,} and {:,}".format(*(flops[network][1] for network in (whole, apart))))
dense = max(ratios["resnet18"], ratios["vit_b_16"])
forward, training = ((flops[whole][which], flops[apart][which]) for which in range(2))
sys.exit(
    int(
        not same
        or dense > 3
        or min(ratios["mobilenet_v2"], ratios["efficientnet_b0"]) < 10
        or forward[0] != forward[1]
        or training[0] - training[1] != (CHANNELS - 1) * forward[0]
    )
)
PYTHON
env/bin/python flops.py || { echo "CHANGED"; exit 1; }
