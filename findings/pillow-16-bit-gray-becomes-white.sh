#!/usr/bin/env bash
# Pillow 13.0.0: converting a 16-bit gray image to RGB clips it at 255 instead of scaling it.
# Expected: mid gray (32768 of 65535) becomes mid gray (128 of 255). Seen: white, without a warning, so that a folder
# of 16-bit PNG files becomes a data set of white images.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install pillow==13.0.0 numpy==2.4.6
cat > convert.py << 'PYTHON'
import sys

import numpy as np
import PIL
from PIL import Image

Image.fromarray(np.full((2, 2), 32768, np.uint16)).save("gray.png")
image = Image.open("gray.png")
pixel = image.convert("RGB").getpixel((0, 0))
print(f"Pillow {PIL.__version__}: mode {image.mode}, gray 32768 of 65535 became {pixel}")
sys.exit(pixel != (255, 255, 255))
PYTHON
env/bin/python -W error convert.py || { echo "CHANGED"; exit 1; }
