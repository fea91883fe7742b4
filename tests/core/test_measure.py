"""Cell table and summary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops_table

from napari_dinocell.core.instances import flood
from napari_dinocell.core.measure import SLOW_COLUMNS, measure, summary

FAST = (
    *("label", "area", "centroid", "bbox", "equivalent_diameter_area", "extent"),
    *("axis_major_length", "axis_minor_length", "eccentricity"),
)
INTENSITY = ("intensity_mean", "intensity_std", "intensity_min", "intensity_max")
blocks = arrays(
    np.int32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 9)
)


def ellipse(major, minor, angle):
    """Labels of one ellipse with semi-axes in px, its major axis turned from y towards x."""
    half = int(major) + 3
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along = y * np.cos(angle) + x * np.sin(angle)
    across = -y * np.sin(angle) + x * np.cos(angle)
    return ((along / major) ** 2 + (across / minor) ** 2 <= 1).astype(np.int32)


def assert_columns_equal(table, expected, rename=lambda name: name):
    for name, column in expected.items():
        np.testing.assert_allclose(table[rename(name)], column, rtol=1e-6, atol=1e-6, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(blocks, st.integers(1, 5), st.integers(1, 5))
def test_fast_columns_equal_scikit_images(coarse, grow_y, grow_x):
    labels = np.kron(coarse, np.ones((grow_y, grow_x), np.int32))
    assert_columns_equal(measure(labels), regionprops_table(labels, properties=FAST))


@settings(deadline=None, max_examples=30)
@given(blocks, st.floats(0.1, 3), st.floats(0.1, 3))
def test_twins_in_micrometers_equal_scikit_images_with_spacing(coarse, y, x):
    labels = np.kron(coarse, np.ones((3, 4), np.int32))
    names = (
        "area",
        "centroid",
        "equivalent_diameter_area",
        "axis_major_length",
        "axis_minor_length",
    )
    expected = regionprops_table(labels, properties=names, spacing=(y, x))
    table = measure(labels, pixel_size_um=(y, x))
    assert_columns_equal(table, expected, lambda n: "area_um2" if n == "area" else f"{n}_um")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, ">u2", np.float16, np.float32])
def test_intensities_equal_scikit_images(dtype):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (30, 40)).astype(np.int32)
    image = (rng.random((30, 40)) * 100).astype(dtype)
    image.flags.writeable = False
    expected = regionprops_table(labels, image.astype(float), properties=INTENSITY)
    assert_columns_equal(measure(labels, image), expected)


def test_channels_get_columns_of_their_own():
    rng = np.random.default_rng(0)
    labels, image = rng.integers(0, 5, (30, 40)), rng.random((30, 40, 3))
    expected = regionprops_table(labels, image, properties=INTENSITY)
    assert len(expected) == 12
    assert_columns_equal(measure(labels, image), expected)


def test_nan_pixels_make_the_figures_of_their_cell_nan_and_of_no_other():
    labels = np.repeat([[1, 2]], 4, axis=0)
    image = np.arange(8.0).reshape(4, 2)
    image[2, 0] = np.nan
    table = measure(labels, image)
    for name in INTENSITY:
        assert np.isnan(table[name][0])
        assert np.isfinite(table[name][1])


def test_shape_columns_come_from_scikit_image_when_asked_for():
    labels = np.zeros((60, 60), int)
    labels[5:20, 5:25], labels[30:50, 30:33], labels[55, 5] = 3, 4, 9
    table = measure(labels, pixel_size_um=(0.5, 0.5), shape=True)
    assert_columns_equal(table, regionprops_table(labels, properties=SLOW_COLUMNS))
    for name in ("perimeter", "perimeter_crofton", "feret_diameter_max"):
        np.testing.assert_allclose(table[f"{name}_um"], table[name] / 2)
    np.testing.assert_allclose(table["area_convex_um2"], table["area_convex"] / 4)
    assert not set(SLOW_COLUMNS) & set(measure(labels))


def test_perimeter_in_micrometers_is_nan_where_pixels_are_not_square():
    table = measure(np.ones((9, 9), int), pixel_size_um=(0.5, 0.3), shape=True)
    assert np.isnan(table["perimeter_um"]).all()
    # Hull corners lie half a pixel inside at the sides; the diagonal is at least 8 by 8 steps.
    assert np.hypot(8 * 0.5, 8 * 0.3) <= table["feret_diameter_max_um"][0] <= np.hypot(4.5, 2.7)


@pytest.mark.parametrize("angle", [0, np.pi / 6, -np.pi / 3, np.pi / 2 - 0.1])
def test_ellipse_has_the_axes_and_the_direction_that_it_was_drawn_with(angle):
    table = measure(ellipse(40, 15, angle))
    assert table["area"][0] == pytest.approx(np.pi * 40 * 15, rel=0.01)
    assert table["axis_major_length"][0] == pytest.approx(80, rel=0.01)
    assert table["axis_minor_length"][0] == pytest.approx(30, rel=0.01)
    assert table["eccentricity"][0] == pytest.approx(np.sqrt(1 - (15 / 40) ** 2), rel=0.01)
    assert table["orientation"][0] == pytest.approx(angle, abs=0.01)
    expected = regionprops_table(ellipse(40, 15, angle), properties=("orientation",))
    assert table["orientation"][0] == pytest.approx(expected["orientation"][0])


def test_variances_of_a_far_away_cell_are_as_exact_as_those_of_a_near_one():
    labels = np.zeros((30, 60_000), np.int32)
    labels[2:25, 3:50] = 1
    labels[2:25, -50:-3] = 2
    table = measure(labels)
    assert table["axis_major_length"][0] == table["axis_major_length"][1]


def test_ids_may_be_wild():
    labels = np.zeros((6, 6), np.int64)
    labels[1, 1], labels[4, 4:6] = 2**31 - 1, 7
    table = measure(labels)
    np.testing.assert_array_equal(table["label"], [7, 2**31 - 1])
    np.testing.assert_array_equal(table["area"], [2, 1])


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (5, 5)])
def test_plane_without_cells_has_the_same_columns_and_no_rows(shape):
    kwargs = {"pixel_size_um": (1.0, 1.0)}
    table = measure(np.zeros(shape, int), np.zeros(shape), **kwargs)
    full = measure(np.ones((5, 5), int), np.zeros((5, 5)), **kwargs)
    assert list(table) == list(full)
    assert all(column.shape == (0,) for column in table.values())
    figures = summary(table, shape, (1.0, 1.0))
    assert figures["count"] == figures["confluency"] == figures["count_per_mm2"] == 0
    assert np.isnan(figures["area_mean"])


def test_columns_of_a_cut_stand_at_its_cells_and_are_nan_elsewhere():
    distance = np.zeros((9, 30))
    distance[2:7, 2:7], distance[2:7, 12:17] = 0.6, 0.8
    cut = flood(distance).cut(0.5, 0.1)
    labels = cut.labels.copy()
    labels[0, 25:] = 77
    coefficients = {"intercept": -1.0, "height": 2.0, "prominence": 0.0, "mean": 0.0}
    table = measure(labels, cut=cut, coefficients=coefficients)
    np.testing.assert_allclose(table["height"], [0.8, 0.6, np.nan], atol=1e-5)
    np.testing.assert_allclose(table["prominence"], [0.8, 0.6, np.nan], atol=1e-5)
    np.testing.assert_allclose(table["mean_distance"], [0.8, 0.6, np.nan], atol=1e-5)
    expected = 1 / (1 + np.exp(1 - 2 * table["height"]))
    np.testing.assert_allclose(table["confidence"], expected)
    assert "confidence" not in measure(labels, cut=cut)


def test_summary_counts_cells_and_the_covered_share():
    labels = np.zeros((20, 50), int)
    labels[:10, :10], labels[10:, 20:50] = 1, 2
    figures = summary(measure(labels), labels.shape, (0.5, 0.2))
    assert figures["count"] == 2
    assert figures["area_mean"] == figures["area_median"] == 200
    assert figures["confluency"] == 0.4
    assert figures["area_mean_um2"] == pytest.approx(20)
    assert figures["count_per_mm2"] == pytest.approx(2 / (1000 * 0.1e-6))


@pytest.mark.parametrize(
    ("labels", "kwargs", "error", "words"),
    [
        (np.zeros((3, 3)), {}, TypeError, "must be integers"),
        (np.zeros((2, 3, 3), int), {}, ValueError, "one plane"),
        (np.full((3, 3), -1), {}, ValueError, "negative"),
        (np.ones((3, 3), int), {"image": np.zeros((3, 4))}, ValueError, "Image has shape"),
        (np.ones((3, 3), int), {"image": np.zeros((3, 3), complex)}, TypeError, "real numbers"),
        (np.ones((3, 3), int), {"pixel_size_um": (0.0, 1.0)}, ValueError, "Pixel size"),
        (np.ones((3, 3), int), {"coefficients": {}}, ValueError, "needs the cut"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(labels, kwargs, error, words):
    with pytest.raises(error, match=words):
        measure(labels, **kwargs)
