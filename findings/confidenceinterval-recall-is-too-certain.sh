#!/usr/bin/env bash
# confidenceinterval 1.0.5: intervals of macro recall, precision and F1 are wrong, and far too narrow if recall is low.
# Expected: on a test set with as many images of each class, macro recall is the accuracy, so that both have about the
# same 95% interval, and both contain the true value for 95% of test sets. Seen: of ten classes, the interval of macro
# recall has two fifths of the right width at 30%, and a fifth at 10%, where it contains the true value for about a
# quarter of test sets; at 95% it is too wide. Macro precision is like recall. The interval of macro F1 depends on the
# number of classes: for two it is almost twice as wide as it should be, for a hundred a quarter. There is no warning.
# The derivative of recall lacks the division by the class's share of images, its covariance has squares where it needs
# products, and the formula of F1 has a sum in place of a product. By `method="bootstrap_percentile"`, recall is right.
# `classification_report_with_ci(confidence_level=...)` uses the level for F1 of the classes alone.
# The manual calls the package the only one "with analytical computation of the CI for Macro/Micro/Binary averaging F1,
# Precision and Recall", by the delta method and the paper of Takahashi et al. Issue 2 of jacobgil/confidenceinterval,
# on an older file, is about the interval of macro F1 being [0, 1]. We found no report of these.
# It matters to comparisons of weak classifiers: differences by chance look certain.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install confidenceinterval==1.0.5 scikit-learn==1.9.1 statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6 pandas==2.3.3
cat > intervals.py << 'PYTHON'
import sys
import warnings
from importlib import metadata

import numpy as np

warnings.simplefilter("ignore")  # while importing
import confidenceinterval as ci  # noqa: E402

warnings.simplefilter("error")
random = np.random.default_rng(0)


def outputs(classes, images, accuracy):
    labels = np.repeat(np.arange(classes), images)
    others = (labels + random.integers(1, classes, len(labels))) % classes
    return labels, np.where(random.random(len(labels)) < accuracy, labels, others)


def compare(scores, classes, images, accuracy, sets):
    """For each score, its interval's width over the right one, and how often the interval has the true value."""
    found = {name: [] for name in scores}
    for _ in range(sets):
        labels, predicted = outputs(classes, images, accuracy)
        for name, (score, options) in scores.items():
            value, (low, high) = score(labels, predicted, **options)
            found[name].append((value, high - low, low <= accuracy <= high))
    right = 2 * 1.96 * (accuracy * (1 - accuracy) / (classes * images)) ** 0.5
    print(f"{classes} classes, {images} images of each, {100 * accuracy:.0f}%", end="")
    result = {}
    for name, each in found.items():
        values, widths, contained = map(np.array, zip(*each))
        assert abs(values.mean() - accuracy) < 0.01, values.mean()
        result[name] = widths.mean() / right, contained.mean()
        print(f"; {name}: {result[name][0]:.2f}, {100 * contained.mean():.0f}%", end="")
    print()
    return result


version = metadata.version("confidenceinterval")
print(f"confidenceinterval {version}: width of intervals (expected 1) and how often they are right (expected 95%)")
macro = dict(average="macro")
scores = {"accuracy": (ci.accuracy_score, {}), "recall": (ci.recall_score, macro)}
scores["precision"] = ci.precision_score, macro
by_accuracy = {accuracy: compare(scores, 10, 100, accuracy, 80) for accuracy in (0.1, 0.3, 0.6, 0.95)}
f1 = {"F1": (ci.f1_score, macro)}
by_classes = {classes: compare(f1, classes, 4000 // classes, 0.6, 15) for classes in (2, 10, 100)}
bootstrap = dict(average="macro", method="bootstrap_percentile", n_resamples=200, random_state=np.random.default_rng(0))
by_bootstrap = compare({"recall by bootstrap": (ci.recall_score, bootstrap)}, 10, 100, 0.1, 1)
labels, predicted = outputs(3, 30, 0.6)
reports = [ci.classification_report_with_ci(labels, predicted, confidence_level=level) for level in (0.5, 0.95)]
same = [name for name in reports[0] if reports[0][name].equals(reports[1][name])]
print("columns of the report that are the same at confidence levels 0.5 and 0.95:", ", ".join(same))
widths = {accuracy: result["recall"][0] for accuracy, result in by_accuracy.items()}
as_seen = 0.15 < widths[0.1] < 0.3 < widths[0.3] < 0.5 < widths[0.6] < 0.9 and widths[0.95] > 1.2
as_seen &= by_accuracy[0.1]["recall"][1] < 0.5 and by_accuracy[0.3]["recall"][1] < 0.85
as_seen &= all(abs(each["precision"][0] - each["recall"][0]) < 0.05 for each in by_accuracy.values())
as_seen &= all(0.95 < each["accuracy"][0] < 1.05 and each["accuracy"][1] > 0.85 for each in by_accuracy.values())
as_seen &= by_classes[2]["F1"][0] > 1.5 and by_classes[100]["F1"][0] < 0.5
as_seen &= 0.8 < by_bootstrap["recall by bootstrap"][0] < 1.2
sys.exit(int(not (as_seen and {"Precision CI", "Recall CI"} <= set(same))))
PYTHON
env/bin/python intervals.py || { echo "CHANGED"; exit 1; }
