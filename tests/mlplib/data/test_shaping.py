"""Images of another resolution."""

import pytest
import torch

from mlplib.data import shaping


@pytest.mark.parametrize("side", [3, 7, 40])
def test_an_image_becomes_the_same_bits_however_many_are_resized_at_a_time(monkeypatch, side):
    seen = []
    interpolate = shaping.F.interpolate

    def counting(images, *given, **options):
        seen.append(len(images))
        return interpolate(images, *given, **options)

    rows = torch.randint(0, 256, (50, 16, 3, 16), dtype=torch.uint8)
    wanted = shaping.resize(rows, side)
    monkeypatch.setattr(shaping.F, "interpolate", counting)
    for pixels in (1, 20 * 16 * 16, 50 * 40 * 40):
        seen.clear()
        monkeypatch.setattr(shaping, "PIXELS", pixels)
        assert torch.equal(shaping.resize(rows, side), wanted)
        assert sum(seen) == 50 and all(count == 1 or count * max(side, 16) ** 2 <= pixels for count in seen)
