#!/usr/bin/env bash
# torchvision 0.29.2: RandomErasing(value="random") fills its rectangle in an image of bytes with black, not with noise.
# Expected: noise over the range that the image's pixels have. Seen: normal noise of deviation 1 whatever the image's
# type, rounded towards zero: of 256 values, two thirds of the pixels are 0, the rest within 9 of 0 or 255, and none is
# gray. A rectangle of an image scaled to [0, 1] has numbers from -4 to 4, of which two thirds are no color. Images of
# Pillow are treated as bytes. There is no warning. The noise of a normalized image, where RandomErasing stands in the
# manual's example, is as bright and strong as the image.
# The manual says that "random" erases each pixel with random values, that the transform takes images, and not that they
# must be normalized. The place was discussed when the transform was made (pull request 909 of pytorch/vision).
# It matters to comparisons of erasing with noise and with a constant where images are erased before they are
# normalized: both kinds are nearly the same, and the settings of the run say "random".
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 pillow==13.0.0
cat > erased.py << 'PYTHON'
import sys

import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

torch.manual_seed(0)
erase = v2.RandomErasing(p=1, scale=(0.3, 0.3), value="random")
image = v2.functional.pil_to_tensor(Image.effect_noise((224, 224), 60).convert("RGB"))
scaled = v2.functional.to_dtype(image, torch.float32, scale=True)
mean, deviation = scaled.mean().item(), scaled.std().item()
normalized = v2.functional.normalize(scaled, [mean] * 3, [deviation] * 3)


def rectangle(before):
    """The erased pixels of an image, in float32."""
    tensor = torch.is_tensor(before)
    both = [each if tensor else v2.functional.pil_to_tensor(each) for each in (before, erase(before))]
    changed = (both[0] != both[1]).any(0)
    rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
    return both[1][:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].float()


def share(condition):
    return condition.float().mean().item()


print(f"torchvision {torchvision.__version__.partition('+')[0]}: pixels erased with random values")
found = {}
for name, each in {"bytes": image, "Pillow": v2.functional.to_pil_image(image)}.items():
    noise = rectangle(each)
    found[name] = share(noise == 0), share((noise > 9) & (noise < 246))
    print("{}: {:.0%} are 0, {:.0%} are from 10 to 245".format(name, *found[name]), end="")
    print(f"; of the image {share(image == 0):.0%} and {share((image > 9) & (image < 246)):.0%}")
noise = rectangle(scaled)
outside = share((noise < 0) | (noise > 1))
print(f"scaled to [0, 1]: {outside:.0%} are outside, the least is {noise.min():.1f} and the greatest {noise.max():.1f}")
noise, rest = rectangle(normalized), normalized
moments = (noise.mean().item(), rest.mean().item(), noise.std().item(), rest.std().item())
print("normalized: mean {:.2f}, of the image {:.2f}; deviation {:.2f}, of the image {:.2f}".format(*moments))
dark = all(black > 0.6 and gray < 0.001 for black, gray in found.values())
alike = abs(moments[0] - moments[1]) < 0.1 and abs(moments[2] - moments[3]) < 0.1
sys.exit(int(not (dark and 0.6 < outside < 0.75 and alike)))
PYTHON
env/bin/python -W error erased.py || { echo "CHANGED"; exit 1; }
