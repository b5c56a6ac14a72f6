#!/usr/bin/env bash
# PyTorch 2.15.0 on a CPU: under autocast, LayerNorm's gradients of its weight and bias are added up in bfloat16.
# Expected: a sum in float32, as in GroupNorm, BatchNorm and Linear (which rounds it once, at the end), above all
# where the parameters and their gradients are float32. Seen: of 20,000 rows whose gradient is 1, the bias gets 256
# on one thread and 512 on two: each thread adds up its rows in bfloat16, where 256 + 1 is 256. Random gradients lose
# less, on one thread 8% of 4096 rows and 20% of 20,000. The result is a float32 tensor, which shows nothing of it.
# No page of the manual says so; of autocast's lists, that for GPUs has LayerNorm in float32, that for CPUs none.
# It matters to networks with LayerNorm (MLPs, Mixers, ViTs) trained in bfloat16 on CPUs. Rows are images, or images
# times patches: a large batch has other gradients than its parts together, and fewer threads make them worse.
# Needs about 6 GB for torch while it runs; two cores.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > sums.py << 'PYTHON'
import sys

import torch
from torch import nn

WIDTH = 64


def gradients(norm, rows, ones):
    """The norm's gradients by its bias and weight, and their relative errors against sums in float64."""
    torch.manual_seed(0)
    inputs = torch.randn(rows, WIDTH).bfloat16()
    above = (torch.ones if ones else torch.randn)(rows, WIDTH).bfloat16()
    norm.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(inputs)
    out.backward(above.to(out.dtype))
    found, exact = [norm.bias.grad, norm.weight.grad], type(norm)(*ARGUMENTS[type(norm)]).double()
    exact(inputs.double()).backward(above.double())
    pairs = zip(found, [exact.bias.grad, exact.weight.grad], strict=True)
    return found, [float((one - other).norm() / other.norm()) for one, other in pairs]


ARGUMENTS = {nn.LayerNorm: [WIDTH], nn.GroupNorm: [1, WIDTH], nn.BatchNorm1d: [WIDTH], nn.Linear: [WIDTH] * 2}
print(f"PyTorch {torch.__version__.partition('+')[0]}, float32 parameters, bfloat16 inputs, autocast on a CPU")
stalled, lost = [], {}
for threads in (1, 2):
    torch.set_num_threads(threads)
    for kind, arguments in ARGUMENTS.items():
        (bias, _), _ = gradients(kind(*arguments), 20_000, ones=True)
        print(f"{threads} threads, {kind.__name__}: 20,000 gradients of 1 sum to {bias[0]:,.0f} ({bias.dtype})")
        stalled.append((kind is nn.LayerNorm) == (float(bias[0]) < 2000))
    for rows in (128, 1024, 4096, 20_000):
        lost[threads, rows] = gradients(nn.LayerNorm(WIDTH), rows, ones=False)[1]
    errors = ", ".join(f"{max(lost[threads, rows]):.0%} of {rows} rows" for rows in (128, 1024, 4096, 20_000))
    print(f"{threads} threads, LayerNorm, random gradients: relative error {errors}")
sys.exit(int(not all(stalled) or max(lost[1, 4096]) < 0.03 or max(lost[1, 128]) > 0.03))
PYTHON
env/bin/python sums.py || { echo "CHANGED"; exit 1; }
