#!/usr/bin/env bash
# webdataset 1.0.2: with `shardshuffle`, the shards come in the same order in every epoch, also without a seed.
# Expected: each epoch has an order of its own, as with a DataLoader that shuffles. Seen: the order of the shards is
# drawn once per data set. Only samples that are in the buffer of `.shuffle` at the same time change places, so an image
# that comes early in one epoch comes early in all: with 50 shards of 40 images and a buffer of 200, its places in two
# epochs are correlated by 0.9 instead of 0. There is no warning, and each epoch has all images.
# With `detshuffle=True` each epoch has another order, but not in a DataLoader, unless its workers are persistent: they
# count the epochs. `shuffle(100)` as a stage of a `DataPipeline`, the manual's other way, draws an order per epoch.
# The manual calls `shardshuffle` the number of shards to shuffle, and its author recommends it together with `.shuffle`
# (issue 350 of webdataset/webdataset). It is known: pull request 502 (July 2026, open) draws an order per epoch again.
# It matters where shards differ by class, source or date: each epoch ends with the same ones, and so does the training.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install webdataset==1.0.2 numpy==2.4.6
cat > epochs.py << 'PYTHON'
import random
import sys

import numpy as np
import webdataset

SHARDS, SAMPLES = 50, 40
random.seed(0)  # webdataset draws the seed of a data set without one from here

for shard in range(SHARDS):
    with webdataset.TarWriter(f"{shard:02}.tar") as writer:
        for number in range(shard * SAMPLES, (shard + 1) * SAMPLES):
            writer.write({"__key__": f"{number:04}", "cls": str(number)})


def places(dataset):
    """The place of each sample in one epoch."""
    return np.argsort([int(sample["__key__"]) for sample in dataset])


print(f"webdataset {webdataset.__version__}: correlation of the places of a sample in two epochs")
found = {}
for deterministic in (False, True):
    for buffer in (0, 200):
        shards = [f"{shard:02}.tar" for shard in range(SHARDS)]
        dataset = webdataset.WebDataset(shards, shardshuffle=SHARDS, detshuffle=deterministic)
        if buffer:
            dataset = dataset.shuffle(buffer)
        epochs = [places(dataset) for _ in range(6)]
        assert all(sorted(epoch) == list(range(SHARDS * SAMPLES)) for epoch in epochs)
        pairs = [np.corrcoef(one, other)[0, 1] for one, other in zip(epochs, epochs[1:], strict=False)]
        found[deterministic, buffer] = np.mean(pairs)
        print(f"detshuffle={deterministic}, buffer of {buffer}: {np.mean(pairs):.2f}")
same = found[False, 0] > 0.999 and found[False, 200] > 0.8
sys.exit(int(not (same and abs(found[True, 0]) < 0.4 and abs(found[True, 200]) < 0.4)))
PYTHON
env/bin/python epochs.py || { echo "CHANGED"; exit 1; }
