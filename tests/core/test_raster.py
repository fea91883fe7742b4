import subprocess
import sys

import imagecodecs
import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image as PillowImage

from napari_dinocell.core.axes import planes
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import read_image

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_png_keeps_every_bit(tmp_path, dtype):
    array = RNG.integers(0, np.iinfo(dtype).max, (20, 30)).astype(dtype)
    array[0, 0] = np.iinfo(dtype).max
    iio.imwrite(tmp_path / "a.png", array)
    image = read_image(tmp_path / "a.png")
    assert (image.axes, image.dtype) == ("YX", array.dtype)
    np.testing.assert_array_equal(image.array, array)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_color_png_never_passes_through_8_bits(tmp_path, channels):
    array = RNG.integers(0, 65535, (20, 30, channels)).astype(np.uint16) | 1
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    image = read_image(tmp_path / "a.png")
    assert (image.axes, image.dtype) == ("YXS", np.uint16)
    np.testing.assert_array_equal(image.array, array)


def test_16_bit_color_without_the_codec_names_the_extra(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(np.zeros((4, 4, 3), np.uint16)))
    code = f"""
import sys
sys.modules["imagecodecs"] = None  # as if it were not installed
from napari_dinocell.core.images import read_image
try:
    read_image({str(path)!r})
except ValueError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "napari-dinocell[formats]"' in run.stdout


def test_color_png_is_color(tmp_path):
    array = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    iio.imwrite(tmp_path / "a.png", array)
    image = read_image(tmp_path / "a.png")
    assert image.axes == "YXS"
    np.testing.assert_array_equal(next(planes(image))[1](), array)


def test_a_palette_becomes_color(tmp_path):
    palette = RNG.integers(0, 255, (256, 3)).astype(np.uint8)
    index = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
    picture = PillowImage.fromarray(index, "L")
    picture.putpalette(palette.tobytes())
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, palette[index])


def test_the_transparent_entry_of_a_palette_is_background(tmp_path):
    picture = PillowImage.fromarray(np.uint8([[0, 1]]), "L")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=0)
    plane = next(planes(read_image(tmp_path / "a.png")))[1]()
    np.testing.assert_array_equal(plane, [[[np.nan] * 3, [40, 50, 60]]])


def test_fully_transparent_pixels_are_background_and_others_keep_their_color(tmp_path):
    array = np.full((2, 2, 4), 99, np.uint8)
    array[0, 0, 3], array[0, 1, 3] = 0, 1
    iio.imwrite(tmp_path / "a.png", array)
    plane = next(planes(read_image(tmp_path / "a.png")))[1]()
    assert np.isnan(plane[0, 0]).all()
    assert (plane[0, 1] == 99).all()


def test_one_bit_png_is_boolean(tmp_path):
    array = RNG.random((20, 30)) < 0.5
    PillowImage.fromarray(array).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == bool
    np.testing.assert_array_equal(image.array, array)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_read_up_to_its_loss(tmp_path, mode):
    # CMYK 0 is no ink: white.
    value, expected = (0, 255) if mode == "CMYK" else (128, 128)
    PillowImage.new(mode, (30, 20), (value,) * len(mode)).save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == ((20, 30) if mode == "L" else (20, 30, 3))
    np.testing.assert_allclose(image.array, expected, atol=3)


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_file_that_is_cut_short_is_refused(tmp_path, ending, share):
    path = tmp_path / f"a.{ending}"
    iio.imwrite(path, RNG.integers(0, 255, (200, 300)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ImageFileError, match=rf"a\.{ending} is damaged, cut short"):
        read_image(path)


def test_a_16_bit_color_file_that_is_cut_short_is_refused(tmp_path):
    content = imagecodecs.png_encode(RNG.integers(0, 65535, (90, 80, 3)).astype(np.uint16))
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageFileError, match="damaged or cut short"):
        read_image(tmp_path / "a.png")


def test_large_scans_are_no_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)  # above twice that, Pillow refuses
    array = RNG.integers(0, 255, (20, 30)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, array)
    assert PillowImage.MAX_IMAGE_PIXELS == 100
