#!/usr/bin/env bash
# PyTorch 2.15.0: cross-entropy with class weights and label smoothing teaches that a frequent class is a rare one.
# Expected: a weight multiplies the loss of an image of its class, as without smoothing, so that of images that a single
# look tells apart all are learned. Seen: the weight multiplies each entry of the smoothed label. Of ten classes whose
# frequencies differ by 100, weighted by them, an image of the most frequent one has 0.91 of its own class times 1, and
# 0.01 of the rarest times 100: the loss is least where the rarest is predicted. A network that can do it learns that,
# and gets 0% of the class that has most images right. Of two classes, 20 to 1 is enough. Without weights, without
# smoothing, or with the weights put on each image's loss, all is right. There is no warning.
# The manual's formula for labels that are probabilities does put the weight into the sum over classes, and the one for
# numbers of classes puts it on the image; it does not say which one smoothing takes, nor what follows. It was noticed:
# issue 104776 of pytorch/pytorch (2023, open) shows that weights change the smoothing.
# It matters to data with a long tail, where weights are usual, and smoothing comes with the recipe: of ten classes the
# mean accuracy falls by a tenth, which looks like the price of weighting.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > tail.py << 'PYTHON'
import sys

import torch
from torch.nn.functional import cross_entropy, one_hot

torch.set_default_dtype(torch.float64)


def per_image(logits, labels, weights, smoothing):
    losses = cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    return (losses * weights[labels]).sum() / weights[labels].sum()


def built_in(logits, labels, weights, smoothing):
    return cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)


def learned(classes, ratio, loss, smoothing, weighted=True):
    """Accuracies of the most frequent class and of the mean over classes, of a fit to images that show their class."""
    counts = [round(1000 * ratio ** (-number / (classes - 1))) for number in range(classes)]
    labels = torch.repeat_interleave(torch.arange(classes), torch.tensor(counts))
    images = one_hot(labels, classes).double()
    weights = 1000 / torch.tensor(counts) if weighted else torch.ones(classes)
    matrix = torch.zeros(classes, classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(images @ matrix, labels, weights, smoothing)
        value.backward()
        return value

    optimizer.step(closure)
    right = matrix.argmax(1) == torch.arange(classes)
    return float(right[0]), float(right.double().mean())


print(f"PyTorch {torch.__version__.partition('+')[0]}: accuracy of the most frequent class, and mean over classes")
found = {}
for classes, ratio in ((2, 20), (10, 100)):
    cases = {
        "weights and smoothing": learned(classes, ratio, built_in, 0.1),
        "weights": learned(classes, ratio, built_in, 0.0),
        "smoothing": learned(classes, ratio, built_in, 0.1, weighted=False),
        "smoothing, and weights on each image's loss": learned(classes, ratio, per_image, 0.1),
    }
    for name, (first, mean) in cases.items():
        print(f"{classes} classes, {ratio} to 1, {name}: {first:.0%}, {mean:.0%}")
    found[classes] = list(cases.values())
same = torch.zeros(1, 2), torch.tensor([0])
losses = [built_in(*same, torch.tensor([1.0, 20.0]), smoothing).item() for smoothing in (0.0, 0.1)]
print("loss of two equal logits, weights 1 and 20: {:.3f} without smoothing, {:.3f} with".format(*losses))
right = all(case == (1, 1) for cases in found.values() for case in cases[1:])
sys.exit(int(not right or found[2][0] != (0, 0.5) or found[10][0][0] != 0 or losses[1] < 1.5 * losses[0]))
PYTHON
env/bin/python tail.py || { echo "CHANGED"; exit 1; }
