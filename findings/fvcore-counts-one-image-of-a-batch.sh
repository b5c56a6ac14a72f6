#!/usr/bin/env bash
# fvcore 0.1.5.post20221221: of `weights @ images`, FlopCountAnalysis counts the product with one image of the batch.
# Expected: a count in proportion to the batch, and the same for both ways to write one product. Seen: a network that
# mixes patches by `self.weights @ patches` has the same count for 64 images as for one; divided by the batch, 1/64. Of
# `weights @ images @ weights` with images of (batch, channels, height, width), the first product is counted for one
# channel of one image, also with a batch of one. Products of transposed tensors are counted right, and so is einsum.
# The counter multiplies the size of the left tensor by the columns of the right one, and leaves out dimensions that
# only the right one has. It does not warn, as it does of operators that it cannot count.
# The manual calls the counts of common operators estimates, and does not mention this. The formula is from pull request
# 54 of facebookresearch/fvcore, which was to count such products; no report of it was found. DeepSpeed's profiler has
# the same formula, and a report (pull request 8419 of deepspeedai/DeepSpeed).
# It matters to comparisons by compute of networks that mix patches, or nodes of a graph, with a matrix on the left:
# their FLOPs per image depend on the batch with which they were counted, and fall with it.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install fvcore==0.1.5.post20221221 torch==2.15.0 numpy==2.4.6
cat > counts.py << 'PYTHON'
import sys
from importlib.metadata import version

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PATCHES, WIDTH, CHANNELS, SIDE = 196, 64, 3, 32
BATCHES = 1, 8, 64


class Product(nn.Module):
    """A product with learned weights, `way` saying how it is written."""

    def __init__(self, side, way):
        super().__init__()
        self.weights, self.way = nn.Parameter(torch.randn(side, side)), way

    def forward(self, images):
        return self.way(self.weights, images)


def left(weights, images):
    return weights @ images


def transposed(weights, images):
    return (images.transpose(-1, -2) @ weights.transpose(0, 1)).transpose(-1, -2)


def einsum(weights, images):
    return torch.einsum("ij,...jk->...ik", weights, images)


def both_sides(weights, images):
    return weights @ images @ weights


def counted(network, images):
    """Multiplications by fvcore and by torch."""
    with FlopCounterMode(display=False) as counter:
        network(images)
    return FlopCountAnalysis(network, images).total(), counter.get_total_flops() / 2


versions = f"fvcore {version('fvcore')}, PyTorch {torch.__version__.partition('+')[0]}"
print(f"{versions}: thousands of multiplications per image")
network = Product(PATCHES, left).eval()
images = torch.randn(2, PATCHES, WIDTH)
assert torch.allclose(network(images), transposed(network.weights, images), atol=1e-3)
seen = {}
for name, side, shape, way in (
    ("weights @ patches", PATCHES, (PATCHES, WIDTH), left),
    ("(patches^T @ weights^T)^T", PATCHES, (PATCHES, WIDTH), transposed),
    ("einsum of weights and patches", PATCHES, (PATCHES, WIDTH), einsum),
    ("weights @ image of 3 channels @ weights", SIDE, (CHANNELS, SIDE, SIDE), both_sides),
):
    for batch in BATCHES:
        found, right = counted(Product(side, way).eval(), torch.randn(batch, *shape))
        seen[way, batch] = found / right
        fvcore, exact = (count / batch / 1e3 for count in (found, right))
        print(f"{name}, {batch} images: {fvcore:,.0f} by fvcore, {exact:,.0f} by torch")
close = all(abs(seen[way, batch] - 1) < 0.01 for way in (transposed, einsum) for batch in BATCHES)
lost = all(abs(seen[left, batch] * batch - 1) < 0.01 for batch in BATCHES)
channels = all(abs(seen[both_sides, batch] - (1 + 1 / (CHANNELS * batch)) / 2) < 0.01 for batch in BATCHES)
sys.exit(int(not (close and lost and channels)))
PYTHON
env/bin/python counts.py || { echo "CHANGED"; exit 1; }
