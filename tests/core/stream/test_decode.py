import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_dinocell.core.stream.decode import DamagedError, PlaneChecks, decode

from .plates import plane


def tiff(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_all_16_bits_come_through(compression, byteorder):
    if compression == "lzw":
        pytest.importorskip("imagecodecs", reason="LZW needs imagecodecs")
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = tiff(image, compression=compression, byteorder=byteorder)
    planes = decode(data, "x")
    assert planes.dtype == np.dtype(np.uint16)
    assert planes.dtype.isnative
    np.testing.assert_array_equal(planes, image[None])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16])
def test_planes_in_one_file_become_channels(dtype):
    stack = np.arange(5 * 20 * 30).reshape(5, 20, 30).astype(dtype)
    data = tiff(stack, photometric="minisblack")
    np.testing.assert_array_equal(decode(data, "x"), stack)


def test_ome_channels_and_interleaved_color_become_channels():
    stack = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    np.testing.assert_array_equal(
        decode(tiff(stack, ome=True, metadata={"axes": "CYX"}), "x"), stack
    )
    color = np.moveaxis(stack, 0, -1).copy()
    np.testing.assert_array_equal(decode(tiff(color, photometric="rgb"), "x"), stack)


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_depth_and_time_are_not_taken_for_channels(axes):
    data = tiff(np.ones((4, 20, 30), np.uint16), ome=True, metadata={"axes": axes})
    with pytest.raises(DamagedError, match=axes):
        decode(data, "x")


def test_png_and_jpeg_are_read():
    gray = plane(0)
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, "png")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "x"), gray[None])
    color = np.stack([gray // 256] * 3, -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(color).save(buffer, "jpeg")
    assert decode(buffer.getvalue(), "x").shape == (3, *gray.shape)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_no_part_of_a_file_decodes_as_an_image(compression):
    """Cut anywhere, a file is refused: what is missing never becomes zeros."""
    data = tiff(plane(1), compression=compression, rowsperstrip=16)
    whole = decode(data, "x")
    for length in [*range(0, len(data), max(1, len(data) // 150)), len(data) - 1]:
        try:
            planes = decode(data[:length], "x")
        except DamagedError:
            continue
        np.testing.assert_array_equal(planes, whole)  # only what no pixel needs was cut


def test_a_flipped_bit_in_compressed_pixels_is_refused():
    data = bytearray(tiff(plane(1), compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        start, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    for at in range(start, start + size, max(1, size // 40)):
        damaged = bytearray(data)
        damaged[at] ^= 0x20
        with pytest.raises(DamagedError):
            decode(bytes(damaged), "x")


def test_a_strip_that_was_never_written_is_refused():
    data = tiff(np.zeros((64, 64), np.uint16), rowsperstrip=16)
    image = plane(2).copy()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages[0].tags["StripOffsets"]
        offsets = tag.valueoffset
    broken = bytearray(tiff(image, rowsperstrip=16))
    broken[offsets : offsets + 4] = bytes(4)
    with pytest.raises(DamagedError, match="lacks parts"):
        decode(bytes(broken), "x")


@pytest.mark.parametrize("data", [b"", b"II*\0", b"not an image", b"\x89PNG\r\n\x1a\n", b"<html>"])
def test_what_is_no_image_is_refused_with_its_address(data):
    with pytest.raises(DamagedError, match="some/key"):
        decode(data, "some/key")


def check(planes: np.ndarray) -> str:
    try:
        PlaneChecks().check(planes, "x")
    except DamagedError as error:
        return error.kind
    return "good"


def test_zero_filled_and_constant_planes_are_refused():
    good = plane(3)[None]
    assert check(good) == "good"
    for share, kind in ((0.4, "good"), (0.6, "zeros")):
        holed = good.copy()
        holed[0, : round(share * 64)] = 0
        assert check(holed) == kind
    assert check(np.full((1, 8, 8), 7, np.uint16)) == "constant"
    assert check(np.concatenate([good, np.zeros_like(good)])) == "constant"  # one of two channels
    assert check(np.array([[[1.0, np.nan]]])) == "not finite"


def test_black_is_no_damage_in_8_bits():
    dark = np.zeros((1, 64, 64), np.uint8)
    dark[0, :4, :4] = 200
    assert check(dark) == "good"
