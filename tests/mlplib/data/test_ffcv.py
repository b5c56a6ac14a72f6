"""Our ``mixup_kind="ffcv"`` against FFCV itself: a few images go through its writer, loader and operations.

What FFCV 1.0.2 does (``ffcv.transforms.mixup``), as these tests see it:

* a batch has one lambda, drawn from Beta(alpha, alpha) after seeding with the batch's last index, so that the
  operation on labels draws the same one;
* every image is mixed with the previous image of its batch, the first with the last;
* the mixture is stored as uint8, fractions cut off, so that on average it is half a gray level darker;
* labels become float32 rows (own label, partner's label, lambda).

FFCV draws through Numba, whose Beta sampler turns the same seed into another number than NumPy's: the law and
the dependence on the last index are the same, the values are not.
"""

import numpy as np
import pytest
import torch

from mlplib.data.augment import draw, mixup_ffcv
from mlplib.specs import AugmentSpec

pytest.importorskip("ffcv", reason="FFCV is not installed (make test compiles it where its headers are)")

ALPHA, BATCH, COUNT, SIZE = 0.8, 8, 20, 16


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """uint8 (COUNT, SIZE, SIZE, 3)."""
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def epochs(images, tmp_path_factory):
    """The images read twice in order through FFCV's MixUp, (images, labels) a batch; labels are positions."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ImageMixup, LabelMixup, ToTensor
    from ffcv.writer import DatasetWriter

    path = str(tmp_path_factory.mktemp("ffcv") / "images.beton")
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    pairs = [(image, position) for position, image in enumerate(images)]
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(pairs)

    loader = Loader(
        path,
        batch_size=BATCH,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={
            "image": [SimpleRGBImageDecoder(), ImageMixup(ALPHA, True), ToTensor()],
            "label": [IntDecoder(), LabelMixup(ALPHA, True), ToTensor()],
        },
    )
    # The loader reuses its memory, so what it hands out is copied.
    return [[(x.clone(), y.clone()) for x, y in loader] for _ in range(2)]


@pytest.fixture(scope="module")
def mixed(epochs):
    return epochs[0]


def test_images_are_mixed_as_ffcv_mixes_them(images, mixed):
    assert [len(x) for x, _ in mixed] == [8, 8, 4]
    original = torch.from_numpy(images).permute(0, 3, 1, 2)
    for (found, labels), start in zip(mixed, range(0, COUNT, BATCH), strict=True):
        lam = float(labels[0, 2])
        ours = original[start : start + len(found)]
        ours = mixup_ffcv(ours, ours.roll(1, 0), lam)
        assert ours.dtype == found.dtype == torch.uint8
        difference = ours.permute(0, 2, 3, 1).int() - found.int()
        # FFCV computes in float64 with a lambda that the labels hold in float32, so a value that lands on a
        # whole number may be cut to the one below. Rounding instead of cutting would differ in every second.
        assert difference.abs().max() <= 1
        assert (difference != 0).float().mean() < 0.01


def test_partners_and_lambda_are_those_of_ffcv(mixed):
    spec = AugmentSpec(mixup=ALPHA, mixup_kind="ffcv")
    for (_, labels), start in zip(mixed, range(0, COUNT, BATCH), strict=True):
        indices = np.arange(start, start + len(labels))
        draws = draw(spec, indices, (SIZE, SIZE), np.random.default_rng(0))
        assert labels.dtype == torch.float32
        np.testing.assert_array_equal(labels[:, 0], indices)
        np.testing.assert_array_equal(labels[:, 1], indices[draws.partner])
        assert len(labels[:, 2].unique()) == 1
        assert 0 <= draws.lam <= 1


def test_lambda_depends_on_the_last_index_only(epochs):
    for (x, y), (x_again, y_again) in zip(*epochs, strict=True):
        assert torch.equal(x, x_again) and torch.equal(y, y_again)
    spec = AugmentSpec(mixup=ALPHA, mixup_kind="ffcv")
    lams = {
        draw(spec, np.array(indices), (SIZE, SIZE), np.random.default_rng(seed)).lam
        for seed, indices in enumerate([[3, 1, 7], [2, 5, 6, 7], [0, 7]])
    }
    assert len(lams) == 1
    assert draw(spec, np.array([3, 1, 8]), (SIZE, SIZE), np.random.default_rng(0)).lam not in lams
