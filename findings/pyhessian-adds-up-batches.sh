#!/usr/bin/env bash
# PyHessian 0.1: the Hessian of a second batch is the sum of both batches' if both are set up before they are computed.
# Expected: `hessian(network, loss, data=batch)` is about that batch. Seen: it is set up by a backward pass that adds to
# the gradients that the network holds, and it keeps the sum. A second object for the same network has the Hessian of
# the first batch plus that of the second, a third one that of three. Eigenvalues and trace are wrong by that, without
# an error or a warning about it (PyTorch's, of `create_graph=True`, is about memory). If eigenvalues are computed
# before the next object is made, they are right, since that clears the gradients: the result depends on the order of
# two calls that seem independent. Gradients that a training left behind do no harm.
# The class says of `data` "a single batch of data", and nothing of gradients. Of its issues, 8 and 19 are about
# parameters without a gradient. We found no report of this one.
# It matters to comparisons of sharpness on training and test images, with and without augmentation, or of large and
# small batches: of two equally sharp ones, the second seems twice as sharp, which has been found for good reasons, too.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install pyhessian==0.1 torch==2.15.0 numpy==2.4.6
cat > sharpness.py << 'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import torch
from pyhessian import hessian

warnings.filterwarnings("ignore", "Using backward")
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.GELU(), torch.nn.Linear(20, 3))
loss = torch.nn.CrossEntropyLoss()
images, labels = torch.randn(600, 10), torch.randint(3, (600,))
batches = list(zip(images.split(200), labels.split(200), strict=True))
weights = {name: weight.detach() for name, weight in network.named_parameters()}
flat = torch.cat([weight.flatten() for weight in weights.values()])
sizes = [weight.numel() for weight in weights.values()]


def loss_of(vector, batch):
    parts = [part.view_as(weight) for part, weight in zip(vector.split(sizes), weights.values(), strict=True)]
    outputs = torch.func.functional_call(network, dict(zip(weights, parts, strict=True)), batch[0])
    return loss(outputs, batch[1])


def of_batch(batch):
    return hessian(network, loss, data=batch, cuda=False)


def largest(computed):
    return computed.eigenvalues(maxIter=500, tol=1e-5)[0][0]


exact = [torch.func.hessian(loss_of)(flat, batch) for batch in batches]
print(f"PyHessian {version('pyhessian')}, torch {torch.__version__}: largest eigenvalues of three batches")
expected = np.array([torch.linalg.eigvalsh(each)[-1].item() for each in exact])
sums = np.array([torch.linalg.eigvalsh(sum(exact[: last + 1]))[-1].item() for last in range(len(exact))])
in_turn = np.array([largest(of_batch(batch)) for batch in batches])
network.zero_grad()
together = np.array([largest(each) for each in [of_batch(batch) for batch in batches]])
print("exact, expected of PyHessian:", expected.round(3))
print("PyHessian, each object used before the next is made:", in_turn.round(3))
print("PyHessian, all objects made before they are used:", together.round(3))
print("exact, of the sum of the Hessians so far:", sums.round(3))
right = np.allclose(in_turn, expected, rtol=0.02)
sys.exit(int(not (right and np.allclose(together, sums, rtol=0.02) and together[2] > 2.5 * expected[2])))
PYTHON
env/bin/python sharpness.py || { echo "CHANGED"; exit 1; }
