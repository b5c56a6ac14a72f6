#!/usr/bin/env bash
# OpenCV 5.0.0 and Albumentations 2.0.8: a gray 16-bit TIFF that Pillow has read correctly becomes noise in every
# function of OpenCV, if the byte order of the file is not that of the processor.
# Expected: the numbers that NumPy shows, or an error, as from torch.from_numpy. Seen: Pillow returns such an image as
# an array of type >u2, which NumPy finds equal to the native one, with the same mean. OpenCV ignores the byte order of
# arrays, also of those of integers with 32 bits or floating-point numbers, and reads 1000 (0x03E8) as 59395 (0xE803),
# without a message. Albumentations passes the array on: Resize and flips return noise, GaussianBlur a KeyError.
# Files that start with MM have that byte order, as ImageJ writes them, and so do arrays from FITS files. The same image
# as a PNG, or as a TIFF that starts with II, is right, and so is what cv2.imread reads from the file itself.
# In the manuals and issues of both packages we found nothing about it. scikit-image 0.26.0 resizes such arrays right.
# It matters to data sets of microscopy and of scans: some images are noise to the network, and neither the files nor
# the arrays that were loaded show anything wrong.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install opencv-python-headless==5.0.0.93 albumentations==2.0.8 pillow==13.0.0 numpy==2.4.6
cat > order.py << 'PYTHON'
import sys

import albumentations
import cv2
import numpy as np
import PIL
from PIL import Image

FILES = {"MM.tif": ">u2", "II.tif": "<u2", "gray.png": "<u2"}
OPERATIONS = {
    "cv2.flip": lambda image: cv2.flip(image, 0),
    "cv2.resize": lambda image: cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA),
    "Albumentations' Resize": lambda image: albumentations.Resize(8, 8)(image=image)["image"],
    "Albumentations' VerticalFlip": lambda image: albumentations.VerticalFlip(p=1)(image=image)["image"],
}

ramp = np.tile(np.arange(64, dtype=np.uint16) * 1000, (64, 1))
for file, kind in FILES.items():
    Image.fromarray(ramp.astype(kind)).save(file)

print(f"OpenCV {cv2.__version__}, Albumentations {albumentations.__version__}, Pillow {PIL.__version__}")
print("the first row of a ramp from 0 to 63000, by file")
wrong = set()
for name, operation in OPERATIONS.items():
    for file in FILES:
        image = np.asarray(Image.open(file))
        if not (np.array_equal(image, ramp) and image.mean() == 31500):
            sys.exit("Pillow reads another image")
        row = operation(image)[0].astype(int)
        if (np.diff(row) <= 0).any():
            wrong.add((name, file))
        print(f"{name}, {file} ({image.dtype}):", *row[:5], "...")
image = np.asarray(Image.open("MM.tif"))
print(f"mean of MM.tif by NumPy: {image.mean():.0f}, by OpenCV: {cv2.mean(image)[0]:.0f}")
if not np.array_equal(cv2.imread("MM.tif", cv2.IMREAD_UNCHANGED), ramp):
    sys.exit("OpenCV reads another image from the file")
if wrong != {(name, "MM.tif") for name in OPERATIONS}:
    sys.exit("CHANGED")
PYTHON
NO_ALBUMENTATIONS_UPDATE=1 env/bin/python order.py 2> errors || { cat errors; exit 1; }
