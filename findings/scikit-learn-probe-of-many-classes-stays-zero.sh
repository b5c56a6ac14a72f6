#!/usr/bin/env bash
# scikit-learn 1.9.1: a linear probe of 1000 classes keeps all its weights at 0, and counts as converged.
# Expected: LogisticRegression with its defaults, on features of length 1 whose classes are easily told apart, is right
# about nearly all images, or warns. Seen: with 100 classes it is right; with 1000 its weights are 0, it took 0
# iterations, and its accuracy is that of chance. Less regularization does not help (C = 1 and 10,000 give the same
# zeros), nor does `max_iter`. The solver stops where no part of the gradient is above `tol`, 0.0001, of a loss that is
# the mean over images since pull request 26721 of scikit-learn/scikit-learn, of 2023. At zero weights, a part of the
# gradient is a difference between features divided by the number of classes: with 2048 features of about 0.02 and 1000
# classes, less than `tol` before the first step. `tol=1e-6` is right about all, and so is the very same problem in
# another unit, features of length 45 and C / 45**2. The manual says "Tolerance for stopping criteria", without a unit.
# We found no report of it.
# It matters to probes on ImageNet: features of length 1 and LogisticRegression are a usual recipe, and a probe that is
# at chance, or that took two or three steps, reads as if the features were bad. The more classes or features a network
# has, the sooner it stops.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat > probe.py << 'PYTHON'
import sys

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

SIZE, PER_CLASS, LONG = 2048, 2, 45
random = np.random.default_rng(0)
centers = random.normal(size=(1000, SIZE))


def probe(classes, scale=1, **settings):
    """Iterations, the greatest weight, and the accuracy on other images of the classes."""
    labels = np.repeat(np.arange(classes), PER_CLASS)
    train, test = (scale * normalize(centers[labels] + 2 * random.normal(size=(len(labels), SIZE))) for _ in range(2))
    model = LogisticRegression(**settings).fit(train, labels)
    found = int(model.n_iter_[0]), float(np.abs(model.coef_).max()), model.score(test, labels)
    text = ", ".join(f"{name}={value}" for name, value in settings.items()) or "defaults"
    print("{} classes, features of length {}, {}: ".format(classes, scale, text), end="")
    print("{} iterations, greatest weight {:.3g}, accuracy {:.1%}".format(*found), flush=True)
    return found


print(f"scikit-learn {sklearn.__version__}: LogisticRegression, {SIZE} features, {PER_CLASS} images of each class")
few = probe(100)
many = [probe(1000), probe(1000, C=10_000, max_iter=10_000)]
others = probe(1000, tol=1e-6), probe(1000, scale=LONG, C=1 / LONG**2)
zero = all(found[:2] == (0, 0) and found[2] == 1 / 1000 for found in many)
sys.exit(int(not (zero and few[2] > 0.99 and min(found[2] for found in others) > 0.99)))
PYTHON
env/bin/python -W error probe.py || { echo "CHANGED"; exit 1; }
