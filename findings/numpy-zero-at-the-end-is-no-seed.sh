#!/usr/bin/env bash
# NumPy 2.4.6: a zero at the end of a seed does not count: `default_rng([5, 0])` draws what `default_rng(5)` draws.
# Expected: lists of other lengths are other seeds, so that `[seed, epoch]` or `[seed, purpose]` makes streams that have
# nothing to do with each other or with that of `seed`. Seen: a list is filled up with zeros to four words of 32 bits.
# Number 0 of whatever is counted draws the numbers of the level above: the order of epoch 0 is the permutation that
# chose the validation images, and noise number 0 is the inputs that it should disturb, with a correlation of 1.
# From number 1 on all is as expected, and so it is with five words. Words are put together, too: 2^32 + 5 is [5, 1].
# The page of `SeedSequence` says nothing of zeros. The manual's recipe has the number first and the seed last, which is
# safe; of the other order it says that it works, but collides where seeds are also made by `spawn`. The children of
# `spawn` repeated their parent until 2020 (issue 16539 of numpy/numpy); lists were left as they are, so that streams
# stay what they were.
# It matters to whoever gets several streams from one seed: counting mostly starts at zero, and a test looks at two
# epochs or purposes, which do differ.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install numpy==2.4.6
cat > seeds.py << 'PYTHON'
import sys

import numpy as np
from numpy.random import SeedSequence, default_rng

IMAGES = 50_000


def order(seed):
    return default_rng(seed).permutation(IMAGES)


print(f"NumPy {np.__version__}: seeds whose permutation of {IMAGES:,} is that of")
seeds = ([5], [5, 0], [5, 0, 0], [5, 0, 0, 0], [5, 0, 0, 0, 0], [0, 5], [5, 1])
found = {base: [seed for seed in seeds if (order(seed) == order(base)).all()] for base in (5, 2**32 + 5)}
for base, same in found.items():
    print(f"{base}: " + ", ".join(map(str, same)))

held_out = set(order(5)[:5000])
shares = [len(held_out & set(order([5, epoch])[:5000])) / 5000 for epoch in range(3)]
print("validation images of seed 5, among the first 5,000 of epochs 0, 1, 2: {:.0%}, {:.0%}, {:.0%}".format(*shares))
inputs = default_rng(5).normal(size=IMAGES)
noises = [default_rng([5, number]).normal(size=IMAGES) for number in range(3)]
related = [np.corrcoef(inputs, noise)[0, 1] for noise in noises]
print("correlation of inputs of seed 5 with noises [5, 0], [5, 1], [5, 2]: {:.2f}, {:.2f}, {:.2f}".format(*related))
child = (order(SeedSequence(5).spawn(1)[0]) == order(5)).all()
print(f"the first child of SeedSequence(5) draws as seed 5: {child}")
expected = {5: [[5], [5, 0], [5, 0, 0], [5, 0, 0, 0]], 2**32 + 5: [[5, 1]]}
apart = max(shares[1:]) < 0.2 and np.abs(related[1:]).max() < 0.05 and not child
sys.exit(int(found != expected or shares[0] < 1 or related[0] < 0.999 or not apart))
PYTHON
env/bin/python -W error seeds.py || { echo "CHANGED"; exit 1; }
