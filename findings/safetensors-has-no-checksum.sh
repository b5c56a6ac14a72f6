#!/usr/bin/env bash
# safetensors 0.8.0: a weights file with a flipped bit loads without a word.
# Expected of a format made for keeping and sharing weights: damage is noticed, as zip files (torch.save) notice it
# by their checksums. Seen: another number. Keep a hash of the file beside it.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install safetensors==0.8.0 numpy==2.4.6
cat > flip.py << 'PYTHON'
import importlib.metadata
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

save_file({"w": np.ones(4, np.float32)}, "weights.safetensors")
path = Path("weights.safetensors")
data = bytearray(path.read_bytes())
data[-1] ^= 0x40  # the highest bit of the last number's exponent
path.write_bytes(data)
loaded = load_file(path)["w"].tolist()
print(f"safetensors {importlib.metadata.version('safetensors')}: wrote [1, 1, 1, 1], read {loaded}")
sys.exit(loaded[:3] != [1, 1, 1] or loaded[3] == 1)
PYTHON
env/bin/python flip.py || { echo "CHANGED"; exit 1; }
