#!/usr/bin/env bash
# PyTorch 2.15.0, on a CPU: in bfloat16, class means by index_reduce("mean") are those of the first 256 images or so,
# divided by the number of all: a tenth of the mean where a class has 5000 images.
# Expected: sums of many bfloat16 numbers are added up in float32, as by sum, mean and scatter_add, and rounded once.
# Seen: index_reduce, index_put(accumulate=True) and the gradient of nn.Embedding add one number after the other to a
# bfloat16 sum, which stays at 256 when what is added is 1. index_add does so for vectors and not for matrices: the
# same counts are 256 as a vector and right as a matrix of one column. In float16 the sums stay at 2048.
# The manual says nothing of it (index_reduce warns that its interface may change), and no issue was found.
# It matters to prototypes and nearest-mean classifiers on features in bfloat16, to counts, and to class embeddings:
# frequent classes get too small a mean or gradient, and rare ones, as in a first small trial, the right one.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > means.py << 'PYTHON'
import sys

import torch

COUNTS = torch.tensor([100, 1000, 5000])
FEATURES = 64
torch.manual_seed(0)
labels = torch.repeat_interleave(torch.arange(len(COUNTS)), COUNTS)[torch.randperm(int(COUNTS.sum()))]
features = (torch.rand(len(labels), FEATURES) + 0.5).bfloat16()
rows = labels[:, None].expand(-1, FEATURES)
truth = torch.stack([features[labels == label].float().mean(0) for label in range(len(COUNTS))])


def embedding_gradient():
    weights = torch.zeros(len(COUNTS), FEATURES, dtype=torch.bfloat16, requires_grad=True)
    torch.nn.functional.embedding(labels, weights).backward(features)
    return weights.grad


zeros = torch.zeros(len(COUNTS), FEATURES, dtype=torch.bfloat16)
sums = {
    "index_add": zeros.index_add(0, labels, features),
    "scatter_add": zeros.scatter_add(0, rows, features),
    "index_put": zeros.index_put((labels,), features, accumulate=True),
    "embedding's gradient": embedding_gradient(),
}
means = {name: each.float() / COUNTS[:, None] for name, each in sums.items()}
means["index_reduce"] = zeros.index_reduce(0, labels, features, "mean", include_self=False).float()
print("PyTorch", torch.__version__.partition("+")[0])
print("class means of", COUNTS.tolist(), "images in bfloat16, as shares of the truth")
shares = {name: (each.mean(1) / truth.mean(1)).tolist() for name, each in means.items()}
for name, share in shares.items():
    print(f"{name}:", *(f"{each:.3f}" for each in share))
ones = torch.ones(len(labels), dtype=torch.bfloat16)
vector = torch.zeros(len(COUNTS), dtype=torch.bfloat16).index_add(0, labels, ones)
matrix = torch.zeros(len(COUNTS), 1, dtype=torch.bfloat16).index_add(0, labels, ones[:, None])[:, 0]
print("counts by index_add:", vector.tolist(), "as a vector,", matrix.tolist(), "as a matrix of one column")

right = all(abs(each - 1) < 0.01 for name in ("index_add", "scatter_add") for each in shares[name])
wrong = [shares[name] for name in ("index_put", "index_reduce", "embedding's gradient")]
as_seen = all(abs(rare - 1) < 0.02 and some < 0.6 and frequent < 0.15 for rare, some, frequent in wrong)
exact = (matrix - COUNTS).abs().max() <= 8  # bfloat16 has no more digits
if not (right and as_seen and exact and vector.tolist() == [100, 256, 256]):
    sys.exit("CHANGED")
PYTHON
env/bin/python means.py 2> errors || { cat errors; exit 1; }
