#!/usr/bin/env bash
# torch-cka 0.21: with a loader that shuffles, two networks are compared on different images; and the similarities have
# the names of other layers.
# Expected: two copies of a network have a similarity (CKA) of 1 in each layer, whatever the order of the images. The
# manual calls a second loader optional, and says, "Don't forget to seed your dataloader". Seen: 1 without shuffling,
# and about 0 with it, seeded or not. The loader is read twice at once, and shuffles differently each time.
# The only warning says the opposite: "Using the same dataloader for both models". The example does not shuffle, without
# a word on why. Of two trained networks, what is left of the similarity looks like a result.
# Also, if only the last of four layers differs, `export` names the one before it, too, and not the network as a whole.
# Its names are in the order of `named_modules`, the whole before its parts, and the numbers in that of the outputs.
# In the issues of AntixK/PyTorch-Model-Compare we found neither.
# It matters to comparisons of what MLPs and CNNs, or small and large networks, have learned: the loader at hand is the
# one of the training, and all layers are the default.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install torch-cka==0.21 torch==2.15.0 numpy==2.4.6 tqdm==4.70.1 matplotlib==3.11.2
cat > compare.py << 'PYTHON'
import copy
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_cka import CKA

torch.manual_seed(0)
images = TensorDataset(torch.randn(512, 1, 8, 8))


network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
other_end = copy.deepcopy(network)
other_end[3].reset_parameters()


def similarities(second, **settings):
    cka = CKA(copy.deepcopy(network), copy.deepcopy(second), "first", "second", device="cpu")
    cka.compare(DataLoader(images, batch_size=64, **settings))
    results = cka.export()
    assert results["model1_layers"] == results["model2_layers"]
    return dict(zip(results["model1_layers"], results["CKA"].diag().tolist(), strict=True))


print(f"torch {torch.__version__.partition('+')[0]}; similarity of a network to a copy, by layer")
found = {
    "in order": similarities(network),
    "shuffled": similarities(network, shuffle=True),
    "shuffled with a seed": similarities(network, shuffle=True, generator=torch.Generator().manual_seed(0)),
    "in order, another layer 3": similarities(other_end),
}
for name, values in found.items():
    print(f"{name}: " + ", ".join(f"{layer or 'whole'} {value:.2f}" for layer, value in values.items()))
in_order, shuffled, with_seed, another = found.values()
zero = max(*shuffled.values(), *with_seed.values()) < 0.1
differs = {layer for layer, value in another.items() if value < 0.99}
if not (min(in_order.values()) > 0.999 and zero and differs == {"2", "3"}):
    sys.exit("CHANGED")
PYTHON
env/bin/python compare.py 2> errors || { cat errors; exit 1; }
