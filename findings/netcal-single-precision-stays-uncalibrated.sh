#!/usr/bin/env bash
# netcal 1.4.0: temperature scaling changes nothing if the network's probabilities are in single precision.
# Expected: about the same temperature and calibration error from float32 as from float64. Seen: `TemperatureScaling`
# leaves probabilities in float32 as they were, whatever they are: the temperature is 1, the calibration error is the
# one before, and there is no warning. `LogisticCalibration` does the same here. The slope of the loss is taken from a
# step of the weight from 1 to 1 + 1.5e-8, which is 1 in float32, so the slope is 0 and the start is the end. PyTorch's
# outputs are float32. In float64 all is well, but for the property `temperature`, which is 1 / T: it says 0.5 for a
# network that is calibrated by dividing its logits by 2.
# The manual asks for a NumPy array of probabilities, and says that they become sigma(s / T). Issue 48 of
# EFS-OpenSource/calibration-framework reports probabilities that stay as they were, without the reason, and is closed;
# issue 13 has the answer that the weight is 1 / T.
# It matters to comparisons of networks after calibration: "calibrated" are the errors before it, and the conclusion
# that temperature scaling does not help is plausible.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install netcal==1.4.0 torch==2.15.0 numpy==2.4.6 scipy==1.17.1 pyro-ppl==1.9.2 gpytorch==1.15.2
cat > calibrate.py << 'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import scipy

warnings.simplefilter("ignore")  # while importing
from netcal.metrics import ECE  # noqa: E402
from netcal.scaling import LogisticCalibration, TemperatureScaling  # noqa: E402

warnings.simplefilter("error", RuntimeWarning)
IMAGES, CLASSES = 6000, 10
random = np.random.default_rng(0)
logits = random.normal(0, 3, (IMAGES, CLASSES))
labels = (np.cumsum(scipy.special.softmax(logits, 1), 1) > random.random((IMAGES, 1))).argmax(1)
first, second = slice(IMAGES // 2), slice(IMAGES // 2, None)


def error(probabilities):
    return float(ECE(15).measure(probabilities, labels[second]))


print(f"netcal {version('netcal')}: calibration error in percent, before and after calibration on other images")
found, inverse = {}, []
for dtype in (np.float64, np.float32):
    for factor in (0.5, 1.5, 2, 4):
        probabilities = scipy.special.softmax(factor * logits, 1).astype(dtype)
        before = error(probabilities[second])
        print(f"{dtype.__name__}, logits times {factor}: {100 * before:.1f}", end="")
        for method in (TemperatureScaling, LogisticCalibration):
            fitted = method().fit(probabilities[first], labels[first])
            after = error(fitted.transform(probabilities[second]))
            print(f"; {method.__name__} {100 * after:.1f}", end="")
            if method is TemperatureScaling:
                found.setdefault(dtype, []).append((before, after))
                temperature = fitted.temperature.item()
                print(f" (temperature {temperature:.2f}, expected {factor})", end="")
                inverse.append(temperature * (factor if dtype is np.float64 else 1))
        print()
double, single = found.values()
calibrated = all(after < 0.03 < 0.08 < before for before, after in double)
unchanged = all(abs(after - before) < 0.001 for before, after in single)
sys.exit(int(not (calibrated and unchanged and all(0.95 < each < 1.05 for each in inverse))))
PYTHON
env/bin/python calibrate.py || { echo "CHANGED"; exit 1; }
