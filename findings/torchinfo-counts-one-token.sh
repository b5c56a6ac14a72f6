#!/usr/bin/env bash
# torchinfo 1.8.0: `summary` counts a linear layer's multiplications for one token of an image, whatever their number.
# Expected: "Total mult-adds" of a network are what torchvision states for its weights, as they are for ResNet-18. Seen:
# 1/14 of them for ConvNeXt-T, 1/101 for ViT-B/16, 1/132 for Swin-T, and 1/40 of those of Mixer-S/16. The counter
# multiplies a linear layer's weights by the size of the batch, and not by the other dimensions that the layer is
# applied to: 196 patches count as one. Convolutions, also of side 1, are counted right: the same layer written as one
# has 196 times the count. The manual does not say so. It was noticed (issue 77 of TylerYep/torchinfo, of 2021) and is
# corrected in the repository (pull request 318), but 1.8.0, of 2023, is still the last release.
# It matters to comparisons of MLPs, transformers and convolutional networks by compute, and to laws of their scaling:
# the more of a network's work is in linear layers on patches, the better it looks, by a factor of up to a hundred.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install torchinfo==1.8.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > counts.py << 'PYTHON'
import sys

import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, get_model_weights

IMAGE = 1, 3, 224, 224


class Mixing(nn.Module):
    """A block of Mixer-S/16: an MLP across the 196 patches, and one across the 512 channels."""

    def __init__(self):
        super().__init__()
        self.across = nn.Sequential(nn.LayerNorm(512), nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512))
        self.norm = nn.LayerNorm(512)
        self.tokens = nn.Sequential(nn.Linear(196, 256), nn.GELU(), nn.Linear(256, 196))

    def forward(self, patches):
        patches = patches + self.tokens(self.norm(patches).mT).mT
        return patches + self.across(patches)


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 512, 16, 16)
        self.blocks = nn.Sequential(*(Mixing() for _ in range(8)), nn.LayerNorm(512))
        self.head = nn.Linear(512, 1000)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images).flatten(2).mT).mean(1))


def counted(network, size):
    return torchinfo.summary(network, input_size=size, verbose=0, device="cpu").total_mult_adds


mixer = Mixer()
with FlopCounterMode(display=False) as counter:
    mixer(torch.zeros(IMAGE))
print(f"torchinfo {torchinfo.__version__}: billions of multiplications for an image of 224x224")
factors = {}
for name in ("resnet18", "convnext_tiny", "swin_t", "vit_b_16", "Mixer-S/16"):
    if name == "Mixer-S/16":
        network, stated, source = mixer, counter.get_total_flops() / 2e9, "by torch's FlopCounterMode"
    else:
        network, stated = get_model(name), get_model_weights(name).DEFAULT.meta["_ops"]
        source = "as torchvision states"
    found = counted(network.eval(), IMAGE) / 1e9
    factors[name] = stated / found
    print(f"{name}: {found:.3f}, {stated:.3f} {source}")
linear = [counted(nn.Linear(64, 64, bias=False), (4, patches, 64)) for patches in (1, 196)]
convolution = [counted(nn.Conv2d(64, 64, 1, bias=False), (4, 64, patches, 1)) for patches in (1, 196)]
print("64 to 64 channels, 4 images of 1 and of 196 patches: {:,} and {:,} as a linear layer".format(*linear), end="")
print(", {:,} and {:,} as a convolution".format(*convolution))
right = abs(factors.pop("resnet18") - 1) < 0.01 and convolution[1] == 196 * convolution[0] == 196 * linear[0]
sys.exit(int(not (right and linear[0] == linear[1] and min(factors.values()) > 10 and factors["vit_b_16"] > 90)))
PYTHON
env/bin/python counts.py || { echo "CHANGED"; exit 1; }
