#!/usr/bin/env bash
# Pillow 13.0.0, OpenCV 5.0.0, scikit-image 0.26.0, imageio 2.38.1: gray TIFF images in which 0 is white, as scanners
# can write them, become negatives, in Pillow and OpenCV only those with 16 bits.
# Expected: black as the smallest value, whatever the tag PhotometricInterpretation says, or everywhere as it is stored.
# Seen: Pillow turns 8 bits round, so that black is 0, but not 16 bits, where black is 65535; the mode tells only the
# depth. OpenCV turns round what it reads as 8 bits: of one file with 16 bits, black is 0 with IMREAD_GRAYSCALE, and
# 65535 once IMREAD_ANYDEPTH is added, which is to be about the depth alone. scikit-image and imageio never turn round,
# so that `imread` shows a negative of an image that was a positive as PNG. libvips is right in all cases.
# There is no message. No manual says so. For scikit-image it is known (issue 1940 of scikit-image/scikit-image, open
# since 2016; for imageio issue 355, closed). OpenCV's pull request 9564 made 16 bits readable in this way. No report
# was found for Pillow.
# It matters to data sets of scans from several sources: some of the images are negatives, by depth and by reader, and a
# network that is trained on them still learns.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install pillow==13.0.0 opencv-python-headless==5.0.0.93 scikit-image==0.26.0 imageio==2.38.1 tifffile==2026.3.3 \
    pyvips==3.2.0 pyvips-binary==8.18.7 numpy==2.4.6
cat > negatives.py << 'PYTHON'
import sys

import cv2
import imageio
import imageio.v3 as iio
import numpy as np
import PIL
import pyvips
import skimage
import skimage.io
import tifffile
from PIL import Image

READERS = {
    "Pillow": lambda file: np.asarray(Image.open(file)),
    "OpenCV, IMREAD_GRAYSCALE": lambda file: cv2.imread(file, cv2.IMREAD_GRAYSCALE),
    "OpenCV, and IMREAD_ANYDEPTH": lambda file: cv2.imread(file, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH),
    "scikit-image": skimage.io.imread,
    "imageio": iio.imread,
    "libvips": lambda file: pyvips.Image.new_from_file(file).numpy(),
}
NEGATIVE = {
    8: {"scikit-image", "imageio"},
    16: {"Pillow", "OpenCV, and IMREAD_ANYDEPTH", "scikit-image", "imageio"},
}


def is_negative(pixels):
    """Whether a picture that gets brighter from left to right gets darker instead."""
    return bool(pixels[0, 0] > pixels[0, -1])


print(f"Pillow {PIL.__version__}, OpenCV {cv2.__version__}, scikit-image {skimage.__version__}, ", end="")
print(f"imageio {imageio.__version__}, pyvips {pyvips.__version__}; a gray ramp from black to white")
as_expected = True
for bits, kind in ((8, np.uint8), (16, np.uint16)):
    white = 2**bits - 1
    ramp = np.linspace(0, white, 32).round().astype(kind)[None].repeat(8, 0)
    files = f"black-{bits}.tif", f"white-{bits}.tif"  # of an old name, libvips would give the old image
    tifffile.imwrite(files[0], ramp, photometric="minisblack")
    tifffile.imwrite(files[1], white - ramp, photometric="miniswhite")
    seen = set()
    for name, read in READERS.items():
        plain, turned = map(read, files)
        as_expected &= not is_negative(plain) and plain.shape == turned.shape == ramp.shape
        ends = [f"{pixels[0, 0]} to {pixels[0, -1]}" for pixels in (plain, turned)]
        print(f"{bits} bits, {name}: {ends[0]} where 0 is black, {ends[1]} where 0 is white")
        if is_negative(turned):
            seen.add(name)
    as_expected &= seen == NEGATIVE[bits]
sys.exit(int(not as_expected))
PYTHON
env/bin/python negatives.py || { echo "CHANGED"; exit 1; }
