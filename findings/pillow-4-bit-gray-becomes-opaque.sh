#!/usr/bin/env bash
# Pillow 13.0.0: a gray PNG of 2 or 4 bits loses its transparent color.
# Expected: the image that a lossless optimizer (pyoxipng 9.1.1) writes is read as the one it was given, bit for bit.
# Seen: of 190 transparent pixels none is left. The optimizer found that 16 grays suffice and wrote 4 bits per pixel.
# Pillow scales the pixels to 0 to 255, but not the gray that the file names as transparent: it looks for gray 5 where
# the pixels are 85. With 1, 8 and 16 bits it finds them. There is no warning; `has_transparency_data` says there is
# transparency, and the background comes out in its gray.
# The format states this color in the image's own bits, so each reader has to scale both. Pull request 3744 of
# python-pillow/Pillow (2019) is about 1, 8 and 16 bits; of 2 and 4 bits we found nothing.
# It matters to data sets of icons, drawings or characters that went through an optimizer on their way to the web.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install pillow==13.0.0 pyoxipng==9.1.1 numpy==2.4.6
cat > optimized.py << 'PYTHON'
import io
import sys

import numpy as np
import oxipng
import PIL
from PIL import Image

gray = np.full((16, 16), 85, np.uint8)
gray[4:12, 4:12] = 170
gray[0, 0], gray[1, 1], gray[6, 6] = 0, 255, 51
file = io.BytesIO()
Image.fromarray(gray).save(file, "PNG", transparency=85)
found = []
for name, content in (("saved", file.getvalue()), ("optimized", oxipng.optimize_from_memory(file.getvalue()))):
    image = Image.open(io.BytesIO(content))
    assert (np.asarray(image) == gray).all() and image.has_transparency_data
    clear = int((np.asarray(image.convert("RGBA"))[..., 3] == 0).sum())
    found.append((content[24], image.info["transparency"], clear))
    print(f"Pillow {PIL.__version__}, {name}: {found[-1][0]} bits, transparent gray {found[-1][1]}, {clear} pixels")
sys.exit(found != [(8, 85, 190), (4, 5, 0)])
PYTHON
env/bin/python -W error optimized.py || { echo "CHANGED"; exit 1; }
