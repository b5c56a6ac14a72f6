#!/usr/bin/env bash
# PyTorch 2.15.0: under autocast, torch.profiler counts the FLOPs of each convolution twice, but of linear layers once.
# Expected of with_flops ("use formula to estimate the FLOPS of specific operators"): the same FLOPs in bfloat16 as in
# float32, since the shapes are the same. Seen: in float32 the profiler agrees with FlopCounterMode. In a block of
# torch.autocast, ResNet-18 takes twice the FLOPs and an MLP the same as before: autocast calls a convolution's operator
# a second time, with inputs that are cast, and the profiler counts both calls. torch.mm(a, b) is counted twice, too,
# and a @ b once. The manual does not say so, and no issue was found.
# Besides, the backward pass is counted for linear layers but not for convolutions (pytorch/pytorch issue 69782): a
# training step of the MLP is counted correctly, and one of ResNet-18 as 1.0 forward passes instead of 2.9.
# It matters to a comparison of networks by compute: next to an MLP, a CNN's evaluation in bfloat16 seems to cost twice
# what it does, and its training in float32 a third.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > flops.py << 'PYTHON'
import sys
from contextlib import nullcontext

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

WHAT = "profiler", "FlopCounterMode"


def counted(function, autocast=False):
    """FLOPs by the profiler and by FlopCounterMode."""
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
            function()
        with FlopCounterMode(display=False) as counter:
            function()
    kinds = "aten::conv2d", "aten::mm", "aten::addmm"
    return sum(each.flops for each in profiler.key_averages() if each.key in kinds), counter.get_total_flops()


print("PyTorch", torch.__version__.partition("+")[0])
images = torch.randn(4, 3, 64, 64)
networks = {
    "MLP": nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 1024), nn.GELU(), nn.Linear(1024, 1000)),
    "ResNet-18": resnet18(),
}
forward, in_bf16, step = {}, {}, {}
for name, network in networks.items():
    forward[name] = counted(lambda: network(images))
    in_bf16[name] = counted(lambda: network(images), autocast=True)
    step[name] = counted(lambda: network(images).sum().backward())
    for by, once, mixed, training in zip(WHAT, forward[name], in_bf16[name], step[name], strict=True):
        print(f"{name} by {by}: forward {once:,}, in bfloat16 {mixed / once:.2f} of it,", end=" ")
        print(f"a training step {training / once:.2f} of it")
a, b = torch.randn(64, 32), torch.randn(32, 16)
products = {"torch.mm(a, b)": lambda: torch.mm(a, b), "a @ b": lambda: a @ b}
mixed = {name: counted(product, autocast=True)[0] / (2 * 64 * 32 * 16) for name, product in products.items()}
print("products in bfloat16, counted by the profiler:", mixed)

once, twice = (in_bf16[name][0] / forward[name][0] for name in networks)
right = all(forward[name][0] == forward[name][1] == in_bf16[name][1] for name in networks)
mlp, cnn = (step[name][0] / forward[name][0] for name in networks)
steps = mlp == step["MLP"][1] / forward["MLP"][1] and cnn < 1.1 and step["ResNet-18"][1] / forward["ResNet-18"][1] > 2.5
if not (right and once == 1 and twice > 1.99 and steps and mixed == {"torch.mm(a, b)": 2, "a @ b": 1}):
    sys.exit("CHANGED")
PYTHON
env/bin/python flops.py 2> errors || { cat errors; exit 1; }
