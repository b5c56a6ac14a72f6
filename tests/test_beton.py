"""Betons: the same bytes as by FFCV's own writer; whole or not there, whatever happens to the writer."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mlplib.data import beton

pytest.importorskip("ffcv", reason="FFCV is not installed (make test compiles it where its headers are)")


def drawn(count, height=8, width=6, seed=0):
    """uint8 (count, height, width, 3) and labels int64 (count,)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, count)


def read(path):
    """All images and labels, in order, by FFCV alone."""
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor

    pipelines = {"image": [SimpleRGBImageDecoder(), ToTensor()], "label": [IntDecoder(), ToTensor()]}
    order = OrderOption.SEQUENTIAL
    loader = Loader(str(path), 64, num_workers=1, order=order, drop_last=False, pipelines=pipelines)
    found = [(images.clone(), labels.clone()) for images, labels in loader]
    return (torch.cat(parts).numpy() for parts in zip(*found, strict=True))


@pytest.mark.parametrize("count, side", [(1, 4), (300, 8), (5, 1200), (3, 1700)])
def test_same_bytes_as_by_ffcvs_own_writer(count, side, tmp_path):
    """Few in a page, one in a page, images larger than the usual page."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    images, labels = drawn(count, side, side + 1)
    ours = beton.write_beton(images, labels, tmp_path / "ours.beton", workers=2)
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    page = max(beton.PAGE_BYTES, 1 << (images[0].nbytes - 1).bit_length())
    writer = DatasetWriter(str(tmp_path / "theirs.beton"), fields, page_size=page, num_workers=1)
    writer.from_indexed_dataset(list(zip(images, labels, strict=True)))
    assert ours.read_bytes() == (tmp_path / "theirs.beton").read_bytes()
    found, found_labels = read(ours)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(found_labels[:, 0], labels)


def test_only_a_few_pages_are_in_memory(tmp_path):
    """180 MB of images, where the writer may take 100 MB."""
    script = """if True:
        import resource, sys
        import numpy as np
        from mlplib.data import beton
        beton.require()
        images = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype=np.uint8, shape=(60_000, 32, 32, 3))
        images[-1] = 7
        labels = np.zeros(len(images), np.int64)
        before = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()  # private data
        resource.setrlimit(resource.RLIMIT_DATA, (before + 100 * 2**20,) * 2)
        beton.write_beton(images, labels, sys.argv[2], workers=2)
    """
    sizes = [str(tmp_path / name) for name in ("images.npy", "whole.beton")]
    subprocess.run([sys.executable, "-c", script, *sizes], check=True)
    assert os.path.getsize(sizes[1]) > 60_000 * 32 * 32 * 3
