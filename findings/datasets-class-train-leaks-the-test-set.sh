#!/usr/bin/env bash
# Hugging Face datasets 5.2.0: of image folders with a class called "train", test images are trained on.
# Expected: `load_dataset("imagefolder")` takes `train/` and `test/` as the splits and the folders in them as classes.
# Seen: a folder with a split's name makes a split at any depth. The class "train" of CIFAR-100, PASCAL VOC and COCO
# is `test/train/`, which is in both splits: its test images are trained on and tested with. A class "train_station" or
# "test tube" does so too, and its images count twice in their own split; "dev" or "validation" make a third split of
# training and test images. A data set in one folder, not split yet, loses every class but that one, and all labels.
# There is no warning; "Train" and "trains" are no split.
# The manual says which names of folders are splits, and not at which depth; of classes with such a name it says
# nothing. Issue 5021 of huggingface/datasets is about files with such names, of which the others are left out.
# It matters to accuracies: one class in a hundred is tested with images that the network was trained on.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install datasets==5.2.0 huggingface_hub==2.4.0 pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6 pillow==13.0.0
cat > classes.py << 'PYTHON'
import sys
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

datasets.disable_progress_bars()
random = np.random.default_rng(0)


def loaded(third, sizes):
    """From which folders each split's images are, and whether they have labels. ``sizes``: images per class."""
    root, folders = Path(f"{third}-{len(sizes)}"), {}
    for part, size in sizes.items():
        for name in ("apple", "pear", third):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(size):
                image = Image.fromarray(random.integers(256, size=(8, 8, 3), dtype=np.uint8))
                image.save(folder / f"{number}.png")
                folders[image.tobytes()] = part
    found = datasets.load_dataset("imagefolder", data_dir=str(root))
    splits = {split: Counter(folders[image.tobytes()] for image in rows["image"]) for split, rows in found.items()}
    return splits, all("label" in rows.features for rows in found.values())


print(f"datasets {datasets.__version__}: three classes, each with 5 images in train/ and 2 in test/; and not split")
seen = {}
for third in ("truck", "train", "train_station", "dev", "Train"):
    splits, _ = loaded(third, {"train": 5, "test": 2})
    whole, labels = loaded(third, {"": 5})
    seen[third] = {split: dict(found) for split, found in splits.items()}, whole, labels
    text = ", ".join(f"{split} has {found['train']} + {found['test']}" for split, found in splits.items())
    kept = sum(map(Counter.total, whole.values()))
    print(f"apple, pear, {third}: {text}; not split: {kept} of 15 images, {'with' if labels else 'without'} labels")
usual = {"train": {"train": 15}, "test": {"test": 6}}
right, lost = {"train": {"": 15}}, {"train": {"": 5}}
sys.exit(
    seen
    != {
        "truck": (usual, right, True),
        "train": ({"train": {"train": 15, "test": 2}, "test": {"test": 6}}, lost, False),
        "train_station": ({"train": {"train": 20, "test": 2}, "test": {"test": 6}}, lost, False),
        "dev": ({**usual, "validation": {"train": 5, "test": 2}}, {"validation": {"": 5}}, False),
        "Train": (usual, right, True),
    }
)
PYTHON
HF_HOME="$PWD/cache" HF_HUB_OFFLINE=1 env/bin/python classes.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
