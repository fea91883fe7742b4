import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_dinocell.core import tiff
from napari_dinocell.core.axes import planes
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import list_series, read_image
from napari_dinocell.core.lazy import ChunkedArray
from napari_dinocell.core.storage import LocalFile

RNG = np.random.default_rng(0)


def pixels(*shape, dtype=np.uint16):
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype)


def test_ome_axes_names_and_pixel_size_are_read(tmp_path):
    array = pixels(2, 3, 2, 20, 30)
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        array,
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": "TZCYX",
            "PhysicalSizeX": 100,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.2,
            "PhysicalSizeYUnit": "µm",
            "PhysicalSizeZ": 0.003,
            "PhysicalSizeZUnit": "mm",
            "Channel": {"Name": ["DAPI", "GFP"]},
        },
    )
    image = read_image(tmp_path / "a.ome.tif")
    assert image.axes == "TZCYX"
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_size_um == pytest.approx((0.2, 0.1))
    assert image.z_step_um == pytest.approx(3)
    np.testing.assert_array_equal(image.array, array)


def test_ome_without_a_pixel_size_has_none(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(5, 6), ome=True)
    assert read_image(tmp_path / "a.tif").pixel_size_um is None


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m", "microns"])
def test_imagej_axes_and_pixel_size_are_read(tmp_path, unit):
    array = pixels(2, 3, 2, 20, 30)
    metadata = {"axes": "TZCYX", "unit": unit, "spacing": 1.5}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(4, 2), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "TZCYX"
    assert image.pixel_size_um == (0.5, 0.25)
    assert image.z_step_um == 1.5
    np.testing.assert_array_equal(image.array, array)


def test_imagej_pixels_without_a_unit_have_no_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(5, 6), imagej=True, resolution=(72, 72))
    assert read_image(tmp_path / "a.tif").pixel_size_um is None


def test_dots_per_inch_are_not_taken_for_a_pixel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(5, 6), resolution=(300, 300), resolutionunit="INCH")
    assert read_image(tmp_path / "a.tif").pixel_size_um is None


def test_big_tiff_and_big_endian_are_read(tmp_path):
    array = pixels(20, 30)
    tifffile.imwrite(tmp_path / "a.btf", array, bigtiff=True, byteorder=">")
    _, plane = next(planes(read_image(tmp_path / "a.btf")))
    assert plane().dtype.isnative
    np.testing.assert_array_equal(plane(), array)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8", "?"])
def test_every_type_of_pixel_keeps_its_values(tmp_path, dtype):
    array = RNG.normal(0, 1000, (9, 11)) if dtype[0] == "f" else RNG.integers(0, 255, (9, 11))
    array = array.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == array.dtype
    np.testing.assert_array_equal(image.array, array)


def test_a_mask_stays_a_mask(tmp_path):
    """By default one-bit pages are written as "white is zero"."""
    mask = RNG.integers(0, 2, (9, 11)).astype(bool)
    tifffile.imwrite(tmp_path / "a.tif", mask)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == bool
    np.testing.assert_array_equal(image.array, mask)


def test_color_is_taken_from_the_files_own_word(tmp_path):
    array = pixels(20, 30, 3)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "YXS"
    np.testing.assert_array_equal(next(planes(image))[1](), array)


def test_color_stored_plane_after_plane_is_color(tmp_path):
    array = pixels(3, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", planarconfig="separate")
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(next(planes(image))[1](), np.moveaxis(array, 0, -1))


def test_transparent_pixels_of_a_color_file_are_background(tmp_path):
    array = pixels(20, 30, 4, dtype=np.uint8) | 1
    array[3, 4, 3] = 0
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha"])
    plane = next(planes(read_image(tmp_path / "a.tif")))[1]()
    assert np.isnan(plane[3, 4]).all()
    assert np.isnan(plane).sum() == 3


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((20, 30, 3), {"photometric": "minisblack", "planarconfig": "contig"}),
        ((20, 30, 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
        ((20, 30, 5), {"photometric": "rgb", "extrasamples": [0, 0]}),
    ],
)
def test_samples_that_are_not_known_to_be_color_are_asked_for(tmp_path, shape, options):
    tifffile.imwrite(tmp_path / "a.tif", pixels(*shape), **options)
    with pytest.raises(ImageFileError, match="--axes YXC"):
        read_image(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif", axes="YXC")
    assert next(planes(image, 1))[1].shape == (20, 30)


def test_pages_without_names_are_asked_for(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pixels(3, 20, 30):
            writer.write(page, contiguous=False, metadata=None)
    with pytest.raises(ImageFileError, match=r"a\.tif: .*--axes CYX or --axes ZYX or --axes TYX"):
        read_image(tmp_path / "a.tif")


def test_a_single_page_needs_no_names(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(1, 1, 20, 30))
    assert read_image(tmp_path / "a.tif").axes == "YX"


def test_a_palette_is_applied(tmp_path):
    index = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
    palette = pixels(3, 256)
    tifffile.imwrite(tmp_path / "a.tif", index, photometric="palette", colormap=palette)
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.array, palette.T[index])


def test_a_gray_palette_gives_a_gray_image(tmp_path):
    index = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
    gray = np.arange(256, dtype=np.uint16) * 257
    tifffile.imwrite(
        tmp_path / "a.tif", index, photometric="palette", colormap=np.stack([gray] * 3)
    )
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "YX"
    np.testing.assert_array_equal(image.array, gray[index])


def test_white_is_zero_is_turned_around(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.uint8([[0, 255, 5]]), photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, [[255, 0, 250]])


def test_one_of_several_series_is_chosen_by_number_or_name(tmp_path, caplog):
    first, second = pixels(20, 30), pixels(8, 9)
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=True) as writer:
        writer.write(first, metadata={"Name": "overview"})
        writer.write(second, metadata={"Name": "field", "PhysicalSizeX": 3, "PhysicalSizeY": 2})
    assert [(s.name, s.shape) for s in list_series(tmp_path / "a.tif")] == [
        ("overview", (20, 30)),
        ("field", (8, 9)),
    ]
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, first)
    assert "a.tif holds 2 images; the first is read." in caplog.text
    for series in (1, "1", "field"):
        image = read_image(tmp_path / "a.tif", series=series)
        np.testing.assert_array_equal(image.array, second)
        assert image.pixel_size_um == (2.0, 3.0)
    with pytest.raises(ImageFileError, match="0 overview, 1 field"):
        read_image(tmp_path / "a.tif", series=2)


def write_pyramid(path, array):
    with tifffile.TiffWriter(path, ome=True) as writer:
        options = {"tile": (32, 32), "compression": "zlib", "photometric": "minisblack"}
        writer.write(array, subifds=1, **options)
        writer.write(array[::2, ::2], subfiletype=1, **options)


@pytest.mark.parametrize("lazy_bytes", [0, 10**9])
def test_of_a_pyramid_the_full_resolution_is_read(tmp_path, lazy_bytes):
    array = pixels(80, 100)
    write_pyramid(tmp_path / "a.tif", array)
    stored = tiff.read(LocalFile(tmp_path / "a.tif"), lazy_bytes=lazy_bytes)
    assert stored.axes == "YX"
    np.testing.assert_array_equal(stored.array[...], array)


LAYOUTS = {
    "one strip": {"compression": "zlib", "rowsperstrip": 70},
    "strips": {"compression": "zlib", "rowsperstrip": 16},
    "tiles": {"compression": "zlib", "tile": (32, 48)},
    "uncompressed tiles": {"tile": (32, 48)},
    "predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 16},
    "lzw": {"compression": "lzw", "rowsperstrip": 16},
    "uncompressed": {},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_large_files_of_any_layout_are_read_by_window(tmp_path, layout, byteorder):
    array = pixels(70, 90)
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, **LAYOUTS[layout])
    stored = tiff.read(LocalFile(tmp_path / "a.tif"), lazy_bytes=0)
    is_mapped = layout == "uncompressed"
    assert isinstance(stored.array, np.memmap if is_mapped else ChunkedArray)
    np.testing.assert_array_equal(stored.array[13:57:3, 5:88], array[13:57:3, 5:88])


def test_large_stacks_are_read_by_window(tmp_path):
    array = pixels(3, 4, 50, 60)
    options = {"compression": "zlib", "photometric": "minisblack", "ome": True}
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": "TCYX"}, **options)
    stored = tiff.read(LocalFile(tmp_path / "a.tif"), lazy_bytes=0)
    assert stored.axes == "TCYX"
    np.testing.assert_array_equal(stored.array[2, 1, 10:20, 5:], array[2, 1, 10:20, 5:])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.98])
@pytest.mark.parametrize("lazy_bytes", [0, 10**9])
def test_a_file_that_is_cut_short_is_refused(tmp_path, layout, share, lazy_bytes):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(70, 90), **LAYOUTS[layout])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ImageFileError, match=r"a\.tif.* is (damaged|cut short)"):
        np.asarray(tiff.read(LocalFile(path), lazy_bytes=lazy_bytes).array[...])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
        {"metadata": {"axes": "TYX"}, "compression": "zlib"},
    ],
)
def test_a_stack_that_is_cut_short_never_loses_planes_silently(tmp_path, options, share):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(10, 40, 50), **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ImageFileError, match="cut short"):
        read_image(path)


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(70, 90), compression="zlib")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :][:200] = bytes(200)
    content[5000:5200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ImageFileError) as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_a_missing_codec_names_the_extra(tmp_path):
    tifffile.imwrite(tmp_path / "zstd.tif", pixels(70, 90), compression="zstd")
    tifffile.imwrite(tmp_path / "lzw.tif", pixels(70, 90), compression="lzw")
    code = f"""
import sys
sys.modules["imagecodecs"] = None  # as if it were not installed
from napari_dinocell.core import tiff
from napari_dinocell.core.storage import LocalFile
for name in ("zstd", "lzw"):
    for lazy_bytes in (0, 10**9):
        try:
            tiff.read(LocalFile({str(tmp_path)!r} + f"/{{name}}.tif"), lazy_bytes=lazy_bytes)
        except ValueError as error:
            print(name, error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert len([line for line in run.stdout.splitlines() if line.startswith("zstd")]) == 2
    assert run.stdout.count('pip install "napari-dinocell[formats]"') == run.stdout.count("\n")


def test_the_file_is_closed_when_the_image_is_gone(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(70, 90), compression="zlib")
    stored = tiff.read(LocalFile(path), lazy_bytes=0)
    del stored
    # An open file would be a ResourceWarning, which is an error in these tests.
    path.unlink()
