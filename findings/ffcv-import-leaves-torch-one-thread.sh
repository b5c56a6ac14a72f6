#!/usr/bin/env bash
# FFCV 1.0.2 and PyTorch 2.15.0: `import ffcv` sets PyTorch to one thread, and each Loader sets it again.
# Expected of an import: that it changes no other package's settings. Seen: FFCV's compiler sets PyTorch's threads
# whenever it sets its own, to 1 at import, to `num_workers` when a Loader is made and when it is read. A number that
# the user has set before, or between two epochs, is lost. No page of the manual says so.
# It matters to a training on a CPU, where products take most of the time: it runs on as many cores as there are
# workers that load images, on one if FFCV is only imported. The result's bits may change with the number, too.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs; two cores.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > threads.py << 'PYTHON'
import sys
from importlib.metadata import version

import torch

torch.set_num_threads(3)
seen = [torch.get_num_threads()]
import ffcv  # noqa: E402

seen.append(torch.get_num_threads())
from ffcv.fields import IntField  # noqa: E402
from ffcv.fields.decoders import IntDecoder  # noqa: E402
from ffcv.loader import Loader  # noqa: E402
from ffcv.transforms import ToTensor  # noqa: E402
from ffcv.writer import DatasetWriter  # noqa: E402

DatasetWriter("data.beton", {"label": IntField()}, num_workers=1).from_indexed_dataset([(0,)] * 64)
loader = Loader("data.beton", 16, num_workers=2, pipelines={"label": [IntDecoder(), ToTensor()]})
seen.append(torch.get_num_threads())
print(f"FFCV {version('ffcv')}, PyTorch {version('torch')}: PyTorch's threads")
print("set by the user: {}; after `import ffcv`: {}; with a Loader of two workers: {}".format(*seen))
sys.exit(int(seen != [3, 1, 2]))
PYTHON
env/bin/python threads.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
