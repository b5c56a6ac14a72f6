#!/usr/bin/env bash
# torch 2.15.0: whoever makes an optimizer, even one of their own in plain Python, imports torch's compiler.
# Expected: that it is imported where something is compiled, as `import torch` leaves it out. Seen: making an optimizer
# imports torch._dynamo, parts of torch._inductor and sympy, more than 700 modules, for another half or more of the CPU
# time that `import torch` takes; so does counting the operations of one product with FlopCounterMode. Nothing is
# compiled: their methods have a wrapper that keeps the compiler away from them, and imports it to do so.
# It matters to whoever trains something small, or in many processes: a worker that trains a tiny network for a second
# imports for five.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > imports.py << 'PYTHON'
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

to_here = time.process_time()


class Signs(torch.optim.Optimizer):
    """An optimizer of one's own."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                weight -= group["lr"] * weight.grad.sign()


weight = torch.nn.Parameter(torch.ones(8, 8))
before = set(sys.modules)
if sys.argv[1] == "a step by hand":
    (weight @ weight).sum().backward()
    with torch.no_grad():
        weight -= 0.1 * weight.grad.sign()
elif sys.argv[1] == "an optimizer of one's own":
    Signs([weight], {"lr": 0.1})
elif sys.argv[1] == "torch's SGD":
    torch.optim.SGD([weight], lr=0.1)
else:
    with FlopCounterMode(display=False):
        weight @ weight
more = set(sys.modules) - before
seconds = time.process_time() - to_here
print(f"{sys.argv[1]}: {len(more)} modules more, {seconds / to_here:.0%} of the time that torch's import took")
compiler = {"torch._dynamo", "sympy"} <= more
sys.exit(compiler != (sys.argv[2] == "imports") or (compiler and (len(more) < 500 or seconds < 0.25 * to_here)))
PYTHON
while read -r imports what; do
    env/bin/python imports.py "$what" "$imports" || { echo "CHANGED"; exit 1; }
done << 'END'
does-not a step by hand
imports an optimizer of one's own
imports torch's SGD
imports FLOPs of a product
END
