#!/usr/bin/env bash
# Hugging Face datasets 5.2.0: of several parquet files, the first one's class names are given to the labels of all.
# Expected: each file states its class names, which datasets wrote into it, so that an owl stays an owl; or an error, as
# `concatenate_datasets` gives for the very same data. Seen: `load_dataset` takes the numbers as they are and the names
# from the first training file, without a warning: a test file in which one class is missing, or was met in another
# order, has other labels than it says, in one split or in several. Alone, each file is read rightly.
# The manual says that features are inferred, not that a file's own names are dropped.
# It matters to a network that is trained on one file and tested on the other: from the first class on that one of them
# lacks, each class counts as the next one, and a good network looks like one that has learned nothing.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install datasets==5.2.0 huggingface_hub==2.4.0 pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
cat > names.py << 'PYTHON'
import sys

import datasets
from datasets import Dataset, concatenate_datasets, load_dataset

datasets.disable_progress_bars()
ANIMALS = {"train": ["cat", "dog", "fox", "owl"], "test": ["cat", "fox", "owl"]}


def names(loaded):
    """What each row's label is called, by what it is."""
    return {row["animal"]: loaded.features["label"].int2str(row["label"]) for row in loaded}


files, alone = {}, {}
for split, animals in ANIMALS.items():
    files[split] = f"{split}.parquet"
    Dataset.from_dict({"animal": animals, "label": animals}).class_encode_column("label").to_parquet(files[split])
    alone[split] = load_dataset("parquet", data_files=files[split], split="train")
together = load_dataset("parquet", data_files=files)
as_one = load_dataset("parquet", data_files=list(files.values()), split="train")
try:
    concatenate_datasets(list(alone.values()))
    refused = False
except ValueError:
    refused = True
print(f"datasets {datasets.__version__}: test file alone {names(alone['test'])}")
print(f"beside a training file, as another split {names(together['test'])}")
print(f"behind it, in the same split {names(as_one.select(range(4, 7)))}")
print(f"concatenate_datasets refuses the two: {refused}")
wrong = {"cat": "cat", "fox": "dog", "owl": "fox"}
right = all(names(alone[split]) == {animal: animal for animal in ANIMALS[split]} for split in ANIMALS)
sys.exit(not (right and refused and names(together["test"]) == names(as_one.select(range(4, 7))) == wrong))
PYTHON
HF_HOME="$PWD/cache" HF_HUB_OFFLINE=1 env/bin/python names.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
