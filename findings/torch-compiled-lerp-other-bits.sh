#!/usr/bin/env bash
# PyTorch 2.15.0 on a CPU: torch.lerp rounds once (a fused multiply-add), and twice when torch.compile compiles it.
# Expected: the same bits, as a compiled product, sum or sign gives. Seen: one number in nine differs in its last bit.
# The compiled bits are those of `a + w * (b - a)` written out; the others are those of that sum rounded once. A moving
# average (momentum, averaged weights) drifts apart with every step, so a training that is compiled in one execution
# and not in the other cannot be repeated bit by bit. On processors without fused multiply-add both round twice.
# Needs a C++ compiler and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > lerp.py << 'PYTHON'
import sys

import torch

WEIGHT = float(torch.tensor(0.1))  # a float32, so that nothing depends on how the weight itself is rounded
generator = torch.Generator().manual_seed(0)
start, end = torch.randn(2, 100_000, generator=generator)


def share(one, other):
    return float((one != other).double().mean())


eager = torch.lerp(start, end, WEIGHT)
compiled = torch.compile(lambda a, b: torch.lerp(a, b, WEIGHT))(start, end)
twice = start + WEIGHT * (end - start)
once = (start.double() + WEIGHT * (end - start).double()).float()
print(f"PyTorch {torch.__version__.partition('+')[0]}: {share(eager, compiled):.1%} of compiled numbers differ;")
print(f"eager is rounded once: {share(eager, once) == 0}, compiled is rounded twice: {share(compiled, twice) == 0}")
sys.exit(share(eager, compiled) == 0 or share(eager, once) != 0 or share(compiled, twice) != 0)
PYTHON
env/bin/python lerp.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
