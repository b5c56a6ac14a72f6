#!/usr/bin/env bash
# LitData 0.2.76: PNG and GIF images with a palette have lost their colors in the optimized data set.
# Expected: an image that the function given to `optimize` returns is in the data set as it was. Seen: of an image that
# Pillow opened, unless it is a JPEG, mode, size and pixels are stored. The pixels of an image with a palette are the
# numbers of its colors, and the palette is left out, so that they come back as shades of gray in the order of the
# palette: a drawing with few colors is nearly black. There is no warning, and mode, size and label are right.
# `litdata.Image` with the path of the same file keeps the colors.
# The manual says that a Pillow image is stored as uncompressed pixels, and prefers `litdata.Image` for its size. There
# seems to be no report. (The encoding "pil" of mosaicml-streaming 0.13.0 leaves out palettes, too.)
# It matters to collections of images from the web, some of which have a palette, as an optimizer of PNG files wrote it:
# they are trained on with the wrong colors, or as black squares, which tell their class apart if it has more of them.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install litdata==0.2.76 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 pillow==13.0.0
cat > palette.py << 'PYTHON'
import contextlib
import sys
from importlib.metadata import version

import litdata
import numpy as np
from PIL import Image

FILES = ["photo.png", "palette.png", "palette.gif"]


def draw():
    colors = np.full((32, 32, 3), (220, 30, 30), np.uint8)
    colors[16:] = 30, 60, 220
    colors[8:24, 8:24] = 250, 220, 20
    image = Image.fromarray(colors)
    image.save(FILES[0])
    for file in FILES[1:]:
        image.quantize(8).save(file)


def sample(number):
    file = FILES[number]
    return {"number": number, "opened": Image.open(file), "path": litdata.Image(path=file)}


def error(image, file):
    """The mean absolute difference from the file's colors."""
    if isinstance(image, Image.Image):
        pixels = np.asarray(image.convert("RGB"))
    else:
        pixels = image[:3].permute(1, 2, 0).numpy()
    right = np.asarray(Image.open(file).convert("RGB"))
    return float(np.abs(pixels.astype(int) - right).mean()), float(pixels.mean())


if __name__ == "__main__":
    draw()
    with contextlib.redirect_stdout(sys.stderr):
        litdata.optimize(fn=sample, inputs=[0, 1, 2], output_dir="optimized", chunk_bytes="64MB", num_workers=1)
    print(f"LitData {version('litdata')}, Pillow {Image.__version__}: colors of the images in a data set")
    found = {}
    for each in litdata.StreamingDataset("optimized"):
        file = FILES[each["number"]]
        for way in ("opened", "path"):
            found[file, way], brightness = error(each[way], file)
            print(f"{file}, {way}: mean {brightness:.0f}, off by {found[file, way]:.0f} of 255")
    lost = all(found[file, "opened"] > 100 for file in FILES[1:])
    kept = found[FILES[0], "opened"] == 0 and all(found[file, "path"] < 5 for file in FILES)
    sys.exit(int(not (lost and kept)))
PYTHON
HOME="$PWD" env/bin/python palette.py 2> log || { tail log; echo "CHANGED"; exit 1; }
