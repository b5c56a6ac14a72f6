#!/usr/bin/env bash
# MAPIE 1.6.0: by "array split", the calibration error of shuffled images is almost 0, however bad the confidences are.
# Expected: the same error in whatever order the images come, close to that of the other ways of making bins. Seen: with
# `split_strategy="array split"`, `expected_calibration_error` cuts the confidences into parts in the order that they
# come in, and takes the largest of each part as the end of a bin. In shuffled data all parts have about the same
# largest confidence, so that one bin has nearly all images, and what is left is the difference of the mean confidence
# from the accuracy. A network whose images are right in three of four cases, whatever its confidence between 50% and
# 100%, has an error of 0.5 points instead of 12, better than the 1.2 of one that is calibrated; sorted by confidence,
# it has 12. `top_label_ece` does the same. There is no warning. The default, "uniform", and "quantile" are right.
# The manual has "array split" as one of three ways of "splitting the predictions into different bins", without a word
# on order. We found no report.
# It matters to comparisons of calibration: temperature scaling, which moves the mean confidence to the accuracy, seems
# to mend everything, and confidences that say nothing look calibrated.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install mapie==1.6.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat > bins.py << 'PYTHON'
import sys
import warnings
from importlib import metadata

import numpy as np

warnings.simplefilter("ignore")  # while importing
from mapie.metrics.calibration import expected_calibration_error, top_label_ece  # noqa: E402

warnings.simplefilter("error")
IMAGES, BINS = 10000, 15
random = np.random.default_rng(0)
confidence = random.uniform(0.5, 1, IMAGES)
by_confidence = np.argsort(confidence)
networks = {"calibrated": confidence, "right in 75% of cases, whatever the confidence": np.full(IMAGES, 0.75)}
orders = {"shuffled": np.arange(IMAGES), "sorted": by_confidence, "backwards": by_confidence[::-1]}


def top_label(right, confidence, **options):  # of two classes: the first is said for all, and right or not
    return top_label_ece(1 - right, confidence, np.zeros(IMAGES, int), **options)


print(f"MAPIE {metadata.version('mapie')}: calibration error in percent, of {BINS} bins with equally many images, and")
print("by MAPIE with uniform, quantile and array split, for each order of the images")
as_seen = True
for name, probability in networks.items():
    right = (random.random(IMAGES) < probability).astype(int)
    parts = np.array_split(by_confidence, BINS)
    expected = sum(abs(right[part].sum() - confidence[part].sum()) for part in parts) / IMAGES
    for order, images in orders.items():
        found = []
        for score in (expected_calibration_error, top_label):
            for way in ("uniform", "quantile", "array split"):
                found.append(score(right[images], confidence[images], num_bins=BINS, split_strategy=way))
        percent = [f"{100 * each:.1f}" for each in found]
        print(f"{name}, {order}: expected {100 * expected:.1f}; {', '.join(percent[:3])}", end="")
        print(f"; by top_label_ece {', '.join(percent[3:])}")
        good = abs(np.array(found) - expected) < 0.01
        as_seen &= good[[0, 1, 3, 4]].all() and np.allclose(found[:3], found[3:])
        if order == "shuffled":
            as_seen &= found[2] < 0.01
        else:
            as_seen &= good[2]
    as_seen &= expected > 0.11 or name == "calibrated"
sys.exit(int(not as_seen))
PYTHON
env/bin/python bins.py || { echo "CHANGED"; exit 1; }
