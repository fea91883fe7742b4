"""The input matrix, by number: what every kind of layer becomes on its way through the network.

A layer goes the panel's way, from `layer_part` through `Engine.segment`, without a window.
"""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from napari.layers import Image, Labels
from synthetic import discs, n_discs

from napari_dinocell.widgets.jobs import Ticket
from napari_dinocell.widgets.layers import axes_of, axes_options, layer_part
from napari_dinocell.widgets.table import measure_plane

pytestmark = pytest.mark.qt

PLANE = discs()
N = n_discs()


@pytest.fixture
def segment(engine):
    """Result of a layer."""

    def run(layer, axes=None, channel=None, **part):
        steps = engine.segment(
            Ticket(),
            layer_part(layer, axes or axes_of(layer), **part),
            "stub",
            "cpu",
            channel,
            None,
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value[0]

    return run


def count(labels):
    return len(np.unique(labels)) - 1


SAME = {
    "1 uint8": lambda: (PLANE // 16).astype(np.uint8),
    "1 uint16": lambda: PLANE,
    "2 uint32": lambda: PLANE.astype(np.uint32) * 1000,
    "2 int8": lambda: (PLANE / 2100 * 255 - 128).astype(np.int8),
    "2 int16 with negatives": lambda: PLANE.astype(np.int16) - 1500,
    "2 int64": lambda: PLANE.astype(np.int64) - (1 << 40),
    "3 float16": lambda: (PLANE / 100).astype(np.float16),
    "3 float32": lambda: PLANE.astype(np.float32) * 1e6,
    "3 float64": lambda: PLANE * 1e-12,
    "6 big-endian integers": lambda: PLANE.astype(">u2"),
    "6 big-endian floats": lambda: PLANE.astype(">f4"),
    "24 dask": lambda: da.from_array(PLANE, chunks=50),
    "24 zarr": lambda: zarr.array(PLANE, chunks=(64, 64)),
    "28 Fortran order": lambda: np.asfortranarray(PLANE),
    "28 reversed": lambda: np.ascontiguousarray(PLANE[::-1, ::-1])[::-1, ::-1],
    "28 every other pixel": lambda: np.repeat(np.repeat(PLANE, 2, 0), 2, 1)[::2, ::2],
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_cells_whatever_holds_the_pixels(segment, kind):
    data = SAME[kind]()
    before = np.array(data)
    try:
        layer = Image(data, contrast_limits=(0, 1))
    except TypeError as error:
        if kind != "6 big-endian floats":
            raise
        pytest.skip(f"This napari cannot show such an image: {error}")
    result = segment(layer)
    assert result.labels.shape == PLANE.shape
    assert count(result.labels) == N
    # The rim of a cell may move by a pixel where rounding to 8 bits or half floats moved it.
    expected = segment(Image(PLANE)).labels > 0
    assert np.mean((result.labels > 0) != expected) < 0.02
    np.testing.assert_array_equal(np.array(data), before)


def test_24_and_26_files_are_read_where_they_lie(segment, tmp_path):
    np.save(tmp_path / "a.npy", PLANE)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    chunked = zarr.open_array(tmp_path / "a.zarr", mode="w", shape=PLANE.shape, dtype="u2")
    chunked[:] = PLANE
    for data in (mapped, zarr.open_array(tmp_path / "a.zarr", mode="r")):
        assert count(segment(Image(data, contrast_limits=(0, 2100))).labels) == N


def test_4_bool_is_zero_and_one(segment):
    assert count(segment(Image(PLANE > 300)).labels) == N


def test_7_what_is_not_a_number_is_background_and_told(segment):
    plane = PLANE.astype(np.float32)
    plane[:40, :40], plane[0, 60] = np.nan, np.inf
    result = segment(Image(plane, contrast_limits=(0, 2100)))
    assert count(result.labels) == N - 1
    assert not result.labels[:40, :40].any()
    assert "1601 of the pixels" in " ".join(result.prediction.notes)
    assert not segment(Image(np.full((9, 9), np.nan), contrast_limits=(0, 1))).labels.any()


def test_8_a_constant_plane_has_no_cells(segment):
    result = segment(Image(np.full((90, 90), 7, np.uint8)))
    assert not result.labels.any()
    assert "contrast" in " ".join(result.prediction.notes)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 300), (20, 5000), (250, 203)])
def test_10_11_13_any_shape_gives_labels_of_that_shape(segment, shape):
    assert segment(Image(discs(shape))).labels.shape == shape


def color(n=3):
    gray = (PLANE // 16).astype(np.uint8)
    alpha = np.where(np.arange(200) < 100, 255, 0).astype(np.uint8)
    planes = [gray] * 3 + [np.broadcast_to(alpha, gray.shape)] * (n - 3)
    return np.stack(planes, -1)


def test_14_15_color_gives_labels_of_two_dimensions_and_transparent_is_background(segment):
    layer = Image(color(), rgb=True, scale=(2, 3), axis_labels=("y", "x"))
    result = segment(layer)
    assert result.labels.shape == PLANE.shape
    assert count(result.labels) == N
    np.testing.assert_array_equal(result.part.placement.scale, (2, 3))
    clear = segment(Image(color(4), rgb=True)).labels
    assert not clear[:, 100:].any()
    assert count(clear[:, :80]) == 8


def test_16_three_values_per_pixel_are_asked_about_and_taken_as_said(segment):
    layer = Image(color(), rgb=False)
    assert set(axes_of(layer)) == {"?"}
    assert {"YXS", "YXC"} <= set(axes_options(layer))
    for axes, channel in (("YXS", None), ("YXC", 1)):
        result = segment(layer, axes, channel)
        assert result.labels.shape == PLANE.shape
        assert count(result.labels) == N
        assert result.part.placement.ndim == 2
    with pytest.raises(ValueError, match="come last"):
        layer_part(Image(color(), rgb=True), "SYX")


STACKS = {
    "17 C, Y, X": ("cyx", (2,), {"c": 1}),
    "19 Z, Y, X": ("zyx", (3,), {}),
    "20 T, Y, X": ("tyx", (3,), {}),
    "21 T, Z, C, Y, X": ("tzcyx", (2, 3, 2), {"c": 1}),
    "22 Y, X, Z": ("yxz", (3,), {}),
    "22 X, Y": ("xy", (), {}),
    "22 Z, X, C, Y": ("zxcy", (2, 2), {"c": 1}),
}


@pytest.mark.parametrize("kind", STACKS)
def test_stacks_of_any_order_give_the_cells_of_each_plane(segment, kind):
    letters, outer, fixed = STACKS[kind]
    data = np.broadcast_to(PLANE, (*outer, *PLANE.shape))
    names = [a for a in letters if a not in "yx"]
    data = np.moveaxis(data, range(data.ndim), [letters.index(a) for a in [*names, "y", "x"]])
    scale = [2.0 + i for i in range(data.ndim)]
    units = ["s" if a == "t" else "pixel" if a == "c" else "um" for a in letters]
    layer = Image(data, rgb=False, axis_labels=tuple(letters), scale=scale, units=units)
    result = segment(layer, channel=fixed.get("c"))
    kept = [a for a in letters if a != "c"]
    assert result.labels.shape == tuple(data.shape[letters.index(a)] for a in kept)
    labels = Labels(result.labels, **result.part.placement.options())
    assert list(labels.axis_labels) == kept
    assert [str(u) for u in labels.units] == [
        str(u) for a, u in zip(letters, layer.units, strict=True) if a != "c"
    ]
    np.testing.assert_array_equal(labels.scale, [scale[letters.index(a)] for a in kept])
    planes = np.moveaxis(result.labels, [kept.index(a) for a in "yx"], [-2, -1])
    for plane in planes.reshape(-1, *PLANE.shape):
        assert count(plane) == N
    y, x = (scale[letters.index(a)] for a in "yx")
    assert result.part.pixel_size_um == (y, x)


def test_19_only_the_wanted_plane(segment):
    stack = np.stack([PLANE * 0, PLANE, PLANE * 0])
    layer = Image(stack, axis_labels=("z", "y", "x"), scale=(4, 1, 1))
    result = segment(layer, planes={"Z": 1})
    assert result.labels.shape == (1, *PLANE.shape)
    assert count(result.labels) == N
    np.testing.assert_array_equal(result.part.placement.translate, (4, 0, 0))


PLACES = {
    "29 negative scale": {"scale": (-1, 2), "translate": (5, -3)},
    "31 rotated": {"scale": (2, 2), "rotate": 30, "translate": (10, 20)},
    "31 sheared": {"scale": (2, 3), "shear": [0.2]},
    "31 affine": {"affine": [[0.9, 0.2, 4], [-0.1, 1.1, 5], [0, 0, 1]], "scale": (2, 2)},
    "33 nanometers": {"scale": (250, 250), "units": ("nm", "nm")},
    "47 contrast limits": {"contrast_limits": (5000, 5001), "gamma": 0.3},
    "42 hidden": {"visible": False, "opacity": 0.1},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_region_lies_where_the_layer_shows_it_and_has_its_cells(segment, place):
    layer = Image(PLANE, axis_labels=("y", "x"), **PLACES[place])
    result = segment(layer, region=(slice(40, 120), slice(80, 200)))
    labels = Labels(result.labels, **result.part.placement.options())
    for y, x in ((0, 0), (79, 119), (30.5, 7)):
        there = layer.data_to_world((y + 40, x + 80))
        np.testing.assert_allclose(labels.data_to_world((y, x)), there, atol=1e-9)
    assert labels.units == layer.units
    assert count(result.labels) == 6
    if place.startswith("33"):
        assert result.part.pixel_size_um == pytest.approx((0.25, 0.25))


def test_23_each_level_of_a_pyramid_covers_the_same_ground(segment):
    plane = discs((320, 400), pitch=80, radius=26)
    layer = Image([plane, plane[::2, ::2]], multiscale=True, scale=(0.5, 0.5), rotate=20)
    for level in (0, 1):
        result = segment(layer, level=level)
        assert count(result.labels) == 20
        labels = Labels(result.labels, **result.part.placement.options())
        for edge in ((-0.5, -0.5), (319.5, 399.5)):
            here = [(e + 0.5) / 2**level - 0.5 for e in edge]
            np.testing.assert_allclose(
                labels.data_to_world(here), layer.data_to_world(edge), atol=1e-9
            )


def test_25_a_source_that_vanishes_is_one_sentence_with_its_place(segment):
    def block(block_info=None):
        if block_info[None]["chunk-location"] == (1, 1):
            raise OSError("the disk was pulled out")
        return PLANE[:80, :100]

    lazy = da.map_blocks(block, chunks=((80, 80), (100, 100)), dtype=np.uint16)
    layer = Image([lazy, np.zeros((16, 20), np.uint16)], multiscale=True, name="far away")
    with pytest.raises(ValueError, match=r"far away, at \(80, 100\).*pulled out"):
        segment(layer)


HOLDERS = {
    "27 in memory": np.array,
    "27 lazy": lambda pixels: da.from_array(pixels, chunks=(1, 2, 64, 64)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_27_a_data_array_gives_its_cells_where_its_coordinates_are(segment, holder):
    pixels = np.stack([np.stack([PLANE * 0, plane]) for plane in (PLANE, PLANE[:, ::-1])])
    y, x, um = 10 + 0.5 * np.arange(160), 0.25 * np.arange(200), {"units": "um"}
    array = xr.DataArray(
        HOLDERS[holder](pixels),
        dims=("z", "channel", "y", "x"),
        coords={"z": ("z", [0.0, 2.0], um), "y": ("y", y, um), "x": ("x", x, um)},
    )
    layer = Image(array, rgb=False, contrast_limits=(0, 2100))
    if layer.axis_labels != array.dims:  # a napari that leaves them to the user
        layer.axis_labels, layer.units = array.dims, ("um", "pixel", "um", "um")
        layer.scale, layer.translate = (2, 1, 0.5, 0.25), (0, 0, 10, 0)
    assert isinstance(layer.data, xr.DataArray)
    assert axes_of(layer) == "ZCYX"
    result = segment(layer, channel=1)
    np.testing.assert_array_equal(
        result.labels, segment(Image(pixels), axes="ZCYX", channel=1).labels
    )
    assert [count(plane) for plane in result.labels] == [N, N]
    labels = Labels(result.labels, **result.part.placement.options())
    np.testing.assert_allclose(labels.data_to_world((1, 0, 0)), (2, y[0], x[0]))
    np.testing.assert_allclose(labels.data_to_world((0, 159, 199)), (0, y[-1], x[-1]))
    assert result.part.pixel_size_um == (0.5, 0.25)
    part = segment(layer, channel=1, planes={"Z": 1}, region=(slice(40, 120), slice(80, 200)))
    assert part.labels.shape == (1, 80, 120)
    assert count(part.labels) == 6
    table = measure_plane(part, 0, part.labels[0], None)
    inside = pixels[1, 1, 40:120, 80:200][part.labels[0] > 0]
    total = np.sum(table["intensity_mean"] * table["area"])
    np.testing.assert_allclose(total, inside.sum(dtype=float), rtol=1e-6)
    np.testing.assert_array_equal(np.array(array), pixels)


@pytest.mark.parametrize(
    ("data", "axes", "words"),
    [
        (np.zeros((4, 5, 6)), "ZYY", "twice"),
        (np.zeros((4, 5, 6)), "YX", "2 dimensions"),
        (np.zeros((4, 5, 6)), "ZTC", "lack Y or X"),
    ],
)
def test_axes_that_do_not_fit_are_one_sentence(data, axes, words):
    with pytest.raises(ValueError, match=words):
        layer_part(Image(data), axes)
