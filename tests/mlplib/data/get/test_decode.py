"""One image: every mode and size becomes RGB pixels of the wanted size, or is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
import tiny_data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlplib.data.get import decode


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.tuples(*[st.integers(0, 255)] * 3))
def test_any_size_becomes_the_wanted_one_and_one_color_stays(width, height, size, color):
    out = decode.fit(np.full((height, width, 3), color, np.uint8), size)
    assert out.shape == (size, size, 3) and out.dtype == np.uint8
    assert (out == color).all()


def test_an_image_of_the_wanted_size_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode.fit(image, 16), image)
    np.testing.assert_array_equal(decode.fit(tiny_data.encode(image), 16, resized=False), image)


@pytest.mark.parametrize("wide", [True, False])
def test_only_the_center_square_stays(wide):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 200  # the center square; what lies next to it is black
    out = decode.fit(image if wide else image.transpose(1, 0, 2), 8)
    assert (out == 200).all()


def test_shrinking_averages():
    checkers = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    out = decode.fit(np.repeat(checkers[..., None], 3, axis=2), 8)
    assert abs(out.astype(int) - 127.5).max() < 3  # without a low-pass filter it would be 0 and 255


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_kind_of_image_becomes_rgb(mode):
    picture = Image.fromarray(tiny_data.photograph(1, 0)).convert(mode)
    assert decode.fit(saved(picture, "TIFF"), 16).shape == (16, 16, 3)


# --------------------------------------------------------------------------- more than 8 bits


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_by_its_depth(kind):
    values = np.array([[0, 128], [32768, 65535]], np.uint16)
    picture = Image.fromarray(values)
    picture = picture.convert("I") if kind == "PPM" else picture
    assert decode.fit(saved(picture, kind), 2)[..., 0].tolist() == [[0, 0], [128, 255]]


def test_12_bit_tiff_is_scaled_by_its_depth():
    content = bytearray(saved(Image.fromarray(np.array([[0, 4095]], np.uint16)), "TIFF"))
    at = content.index(b"\x02\x01\x03\x00\x01\x00\x00\x00\x10\x00")  # BitsPerSample, SHORT, 1 value: 16
    with Image.open(io.BytesIO(bytes(content))) as opened:
        opened.load()
        opened.tag_v2[258] = (12,)
        assert np.asarray(decode._to_rgb(opened, on_white=False))[0, :, 0].tolist() == [0, 255]
    assert at > 0


def test_16_bit_tiff_whose_white_is_zero_is_turned_round():
    values = np.array([[0, 65535]], np.uint16)
    white_is_zero = saved(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(white_is_zero)) as opened:
        assert opened.tag_v2[262] == 0 and opened.mode.startswith("I;16")
        assert np.asarray(decode._to_rgb(opened, on_white=False))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(("bits", "row", "key"), [(1, 0x40, 1), (2, 0x10, 1), (4, 0x05, 5)])
def test_a_transparent_gray_of_few_bits_is_put_on_white(bits, row, key):
    """Two pixels: black, and the gray that is transparent."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes([0, row])))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", struct.pack(">H", key)) + pixels
    content += chunk(b"IEND", b"")
    with Image.open(io.BytesIO(content)) as image:
        assert np.asarray(decode._to_rgb(image, on_white=True))[0, :, 0].tolist() == [0, 255]


def test_a_transparent_gray_of_16_bits_is_put_on_white():
    content = saved(Image.fromarray(np.array([[7, 65535], [7, 0]], np.uint16)), "PNG", transparency=7)
    assert decode.fit(content, 2, upright=True)[..., 0].tolist() == [[255, 255], [255, 0]]
    assert decode.fit(content, 2)[..., 0].tolist() == [[0, 255], [0, 0]]


@pytest.mark.parametrize(("mode", "said"), [("F", "floating-point numbers"), ("I", "32-bit integers")])
def test_pixels_without_a_range_are_refused_by_name(mode, said):
    content = saved(Image.new(mode, (4, 4)), "TIFF")
    with pytest.raises(ValueError, match=f"its pixels are {said} \\(mode {mode}\\)"):
        decode.fit(content, 4)


# --------------------------------------------------------------------------- own images


def test_upright_images_follow_their_exif_data():
    image = Image.new("RGB", (8, 8), "black")
    image.paste((255, 0, 0), (0, 0, 8, 4))  # red on top
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: the top goes to the right
    for kind in ("PNG", "TIFF", "WEBP"):
        content = saved(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        turned = decode.fit(content, 8, upright=True)
        assert (turned[:, 4:, 0] == 255).all() and (turned[:, :4] == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_images_are_put_on_white(mode):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    content = saved(clear, "PNG", **({"transparency": 0} if mode == "P" else {}))
    assert (decode.fit(content, 8, upright=True) == 255).all()
    assert (decode.fit(content, 8) == 0).all()  # as published data sets are decoded


@pytest.mark.parametrize("suffix", ["png", "JPG", "tif", "tiff", "gif", "ppm", "jfif", "bmp", "webp", "jp2"])
def test_what_pillow_reads_is_an_image(suffix):
    assert decode.is_image_name(f"train/cats/x.{suffix}")


@pytest.mark.parametrize("name", ["notes.txt", "x.pdf", "x.mpg", "x.h5", "x", "x.heic", "x.csv"])
def test_what_pillow_does_not_read_is_not(name):
    assert not decode.is_image_name(name)


def test_an_lfs_pointer_says_so():
    with pytest.raises(ValueError, match="an LFS pointer, not the file itself: run git lfs pull"):
        decode.fit(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 8)
