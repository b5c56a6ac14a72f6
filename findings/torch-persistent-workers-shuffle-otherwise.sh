#!/usr/bin/env bash
# PyTorch 2.15.0: with `persistent_workers`, a DataLoader shuffles otherwise from its second epoch on.
# Expected: the option keeps processes alive, to save time; the order of images follows from the loader's generator and
# does not depend on workers, as it does not on their number. Seen: every epoch, a DataLoader draws a seed for workers
# from the same generator, even without workers, but for persistent ones in the first epoch only: all later orders
# are others. Nor can such a training be resumed: a new loader with the generator's saved state draws that seed again,
# and goes on with other orders than the training that had no break. The manual names both uses, not this.
# It matters to a comparison of loaders or machines "with the same seed", and to checkpoints between epochs. Without
# the option the generator's saved state is enough.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > orders.py << 'PYTHON'
import sys

import torch
from torch.utils.data import DataLoader

WAYS = {
    "no workers": {},
    "1 worker": {"num_workers": 1},
    "2 workers": {"num_workers": 2},
    "1 persistent worker": {"num_workers": 1, "persistent_workers": True},
    "2 persistent workers": {"num_workers": 2, "persistent_workers": True},
}


def orders(way, epochs, state=None):
    """The orders of some epochs, and the generator's state after them; goes on from ``state``."""
    generator = torch.Generator().manual_seed(0)
    if state is not None:
        generator.set_state(state)
    loader = DataLoader(range(100), batch_size=10, shuffle=True, generator=generator, **WAYS[way])
    return [tuple(torch.cat(list(loader)).tolist()) for _ in range(epochs)], generator.get_state()


if __name__ == "__main__":
    print(f"PyTorch {torch.__version__.partition('+')[0]}: epochs with the order that the seed gives without workers")
    first, seen = orders("no workers", 4)[0], {}
    for way in WAYS:
        found, _ = orders(way, 4)
        same = [str(epoch) for epoch in range(4) if found[epoch] == first[epoch]]
        before, state = orders(way, 2)
        resumed = before + orders(way, 2, state)[0] == found
        print(f"{way}: {' '.join(same)} of 0 1 2 3; resumed from the generator's state, as without a break: {resumed}")
        seen[way] = (len(same), resumed)
    expected = {way: (1, False) if "persistent" in way else (4, True) for way in WAYS}
    sys.exit(int(seen != expected))
PYTHON
env/bin/python orders.py || { echo "CHANGED"; exit 1; }
