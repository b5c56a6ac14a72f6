#!/usr/bin/env bash
# torchvision 0.29.2: ops.MLP applies dropout to its outputs, too: as a classifier, it trains with logits set to 0.
# Expected of MLP(in_channels, hidden_channels, dropout=0.5): dropout between its layers, since the last layer has
# neither the normalization nor the activation of the others. Seen: the last module is a dropout. With 0.5, half of the
# logits of the true class are 0 during training, and the others are doubled. On data where the accuracy is 77% with it
# and without it, the mean confidence is 66% instead of 81%, and the training loss is more than twice as large.
# The manual says "the probability for the dropout layer". The block was made for transformers, where outputs are
# features (pytorch/vision pull request 6053); no issue was found. `network[:-1]` is a TypeError: the class has other
# arguments than a Sequential; nn.Sequential(*list(network)[:-1]) works.
# It matters to a study of MLPs that compares dropout rates: the comparison is of two changes at once, and the training
# losses and probabilities of networks with different rates mean different things.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > dropped.py << 'PYTHON'
import sys

import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

CLASSES, FEATURES, IMAGES, EPOCHS, RATE, SEEDS = 10, 32, 2000, 40, 0.5, 4
torch.set_num_threads(1)


def sample(centers, count, draws):
    """Points around the center of their class."""
    labels = torch.randint(0, CLASSES, (count,), generator=draws)
    return centers[labels] + torch.randn(count, FEATURES, generator=draws), labels


def train(seed, last):
    """Zero logits of the true class and loss in training; accuracy and mean confidence in the test, as fractions."""
    draws = torch.Generator().manual_seed(seed)
    centers = 0.45 * torch.randn(CLASSES, FEATURES, generator=draws)
    (x, y), (test_x, test_y) = sample(centers, IMAGES, draws), sample(centers, 10_000, draws)
    torch.manual_seed(seed)
    network = torchvision.ops.MLP(FEATURES, [128, CLASSES], dropout=RATE)
    if not last:
        network = nn.Sequential(*list(network)[:-1])
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    zeros = losses = 0.0
    for epoch in range(EPOCHS):
        for inputs, labels in zip(x.split(100), y.split(100), strict=True):
            logits = network(inputs)
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch == EPOCHS - 1:
                zeros += (logits.gather(1, labels[:, None]) == 0).float().mean().item() / (IMAGES / 100)
                losses += loss.item() / (IMAGES / 100)
    network.eval()
    with torch.no_grad():
        probabilities = network(test_x).softmax(1)
    accuracy = (probabilities.argmax(1) == test_y).float().mean().item()
    return zeros, losses, accuracy, probabilities.amax(1).mean().item()


print("torchvision", torchvision.__version__.partition("+")[0], "torch", torch.__version__.partition("+")[0])
print([type(module).__name__ for module in torchvision.ops.MLP(FEATURES, [128, CLASSES], dropout=RATE)])
means = {}
for last in (True, False):
    means[last] = torch.tensor([train(seed, last) for seed in range(SEEDS)]).mean(0).tolist()
    kind = "as torchvision makes it" if last else "without the last dropout"
    text = "zero logits of the true class {:.0%}, training loss {:.2f}, accuracy {:.1%}, mean confidence {:.1%}"
    print(f"{kind}, {SEEDS} seeds:", text.format(*means[last]))
(zeros, loss, accuracy, confidence), (no_zeros, less, as_accurate, surer) = means[True], means[False]
same = abs(accuracy - as_accurate) < 0.03
if not (abs(zeros - RATE) < 0.05 and no_zeros == 0 and loss > 1.5 * less and same and surer - confidence > 0.08):
    sys.exit("CHANGED")
PYTHON
env/bin/python dropped.py 2> errors || { cat errors; exit 1; }
