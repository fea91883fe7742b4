"""Normalization: closed forms, invariances, noise that must be empty, real images that must not."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imageio.v3 import imread

from napari_dinocell.core.intensity import (
    CLIP,
    IntensityRange,
    intensity_range,
    luminance,
    normalize,
)

NOISE = {
    "normal": lambda rng, shape: rng.normal(100, 5, shape),
    "uniform": lambda rng, shape: rng.random(shape),
    "bytes": lambda rng, shape: rng.integers(0, 256, shape).astype(np.uint8),
    "photons": lambda rng, shape: rng.poisson(20, shape).astype(np.uint16),
    "few photons": lambda rng, shape: rng.poisson(0.01, shape).astype(np.uint16),
    "exponential": lambda rng, shape: rng.exponential(1, shape),
    "heavy tails": lambda rng, shape: rng.standard_cauchy(shape),
    "salt": lambda rng, shape: np.where(rng.random(shape) < 0.02, 255, 0).astype(np.uint8),
    "coarse steps": lambda rng, shape: np.round(rng.normal(10.2, 0.3, shape)).astype(np.uint8),
}


def disc(shape, center, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def scene(shape=(256, 256), seed=0):
    """Noise of standard deviation 2 and bright discs."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(100, 2, shape)
    for _ in range(12):
        plane[disc(shape, rng.uniform(20, np.array(shape) - 20), 12)] += 80
    return plane


def test_range_is_that_of_the_percentiles():
    plane = scene()
    found = intensity_range(plane, (2.0, 99.0))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(plane, (2, 99))))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 30000), min_size=1, max_size=60),
    st.sampled_from(["u2", "i2", "f2", "f4"]),
    st.tuples(st.floats(0, 50), st.floats(50.1, 100)),
)
def test_percentiles_of_camera_values_equal_those_of_numpy(values, dtype, percentiles):
    plane = np.array([values]).astype(dtype)  # one row has no blocks: percentiles alone decide
    found = intensity_range(plane, percentiles)
    expected = np.percentile(plane.astype(float), percentiles)
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-6, atol=1e-6)


def test_low_becomes_zero_and_high_becomes_one():
    ramp = np.linspace(10, 20, 11).reshape(1, 11)
    expected = (ramp - 12) / 4
    result = normalize(ramp, IntensityRange(12.0, 16.0, False))
    np.testing.assert_allclose(result, np.clip(expected, *CLIP), atol=1e-6)
    assert result.dtype == np.float32


@settings(deadline=None, max_examples=25)
@given(gain=st.floats(1e-3, 1e4), offset=st.floats(-1e5, 1e5))
def test_gain_and_offset_of_the_camera_change_nothing(gain, offset):
    plane = scene((64, 64))
    changed = plane * gain + offset
    before = normalize(plane, intensity_range(plane))
    after = normalize(changed, intensity_range(changed))
    np.testing.assert_allclose(after, before, atol=2e-5)


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">i4", ">f4"]
)
def test_no_dtype_wraps_or_loses_contrast(dtype):
    shape = (64, 64)
    kind = np.dtype(dtype)
    low, high = (-100.0, 100.0) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    bright = disc(shape, (30, 30), 12)
    plane = np.where(bright, high, low).astype(kind)
    result = normalize(plane, intensity_range(plane))
    np.testing.assert_allclose(result, bright, atol=1e-6)


def test_booleans_are_zero_and_one():
    bright = disc((64, 64), (30, 30), 12)
    np.testing.assert_array_equal(normalize(bright, intensity_range(bright)), bright)


def test_extreme_floats_stay_finite():
    plane = np.where(disc((64, 64), (30, 30), 12), 9e299, -9e299)
    result = normalize(plane, intensity_range(plane))
    assert np.isfinite(result).all()
    assert result.max() == pytest.approx(1)
    assert result.min() == pytest.approx(0)


@pytest.mark.parametrize("view", ["transposed", "reversed", "strided", "fortran"])
def test_memory_layout_does_not_matter(view):
    plane = scene((96, 128))
    other = {
        "transposed": np.ascontiguousarray(plane.T).T,
        "reversed": plane[::-1, ::-1].copy()[::-1, ::-1],
        "strided": np.repeat(plane, 2, axis=1)[:, ::2],
        "fortran": np.asfortranarray(plane),
    }[view]
    assert intensity_range(other) == intensity_range(plane)
    result = normalize(other, intensity_range(other))
    np.testing.assert_array_equal(result, normalize(plane, intensity_range(plane)))
    assert result.flags.c_contiguous


def test_the_plane_is_not_modified():
    plane = scene()
    plane[3, 4] = np.nan
    before = plane.copy()
    normalize(plane, intensity_range(plane))
    np.testing.assert_array_equal(plane, before)


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize(("shape", "n_draws"), [((64, 64), 10), ((200, 301), 3), ((1024, 1024), 1)])
def test_pure_noise_is_empty(kind, shape, n_draws):
    for seed in range(n_draws):
        plane = NOISE[kind](np.random.default_rng(seed), shape)
        assert intensity_range(plane).is_empty


def test_noise_with_uneven_light_is_empty():
    rng = np.random.default_rng(0)
    light = np.linspace(0, 2.5, 512)
    assert intensity_range(rng.normal(100, 5, (512, 512)) + 2.5 * light).is_empty


def test_noise_in_color_is_empty_although_the_color_itself_has_contrast():
    plane = np.random.default_rng(0).normal([200, 150, 190], 3, (256, 256, 3))
    assert intensity_range(plane).is_empty


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 3), (50, 50), (300, 200)])
@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_planes_are_empty_and_become_zero(shape, value):
    plane = np.full(shape, value, np.uint8)
    found = intensity_range(plane)
    assert found.is_empty
    assert not normalize(plane, found).any()


@pytest.mark.parametrize("noise", [0, 3])
def test_one_bright_pixel_is_empty(noise):
    plane = np.random.default_rng(0).normal(100, noise, (256, 256))
    plane[100, 100] = 65535
    assert intensity_range(plane).is_empty


def test_all_nan_is_empty_and_counted():
    plane = np.full((20, 30), np.nan)
    found = intensity_range(plane)
    assert found.is_empty
    assert found.n_ignored == 600
    assert not normalize(plane, found).any()


def test_nan_and_infinity_do_not_count_and_become_background():
    plane = scene()
    spoiled = plane.copy()
    spoiled[:5], spoiled[5, :7], spoiled[5, 7:9] = np.nan, np.inf, -1.7e308
    found = intensity_range(spoiled)
    rest = spoiled[np.abs(spoiled) < 1e9]
    assert found.n_ignored == 5 * 256 + 9
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(rest, (1, 99.8))))
    result = normalize(spoiled, found)
    level = (np.median(rest) - found.low) / (found.high - found.low)
    np.testing.assert_allclose(result[:5], level, rtol=1e-5)


@pytest.mark.parametrize("snr", [3, 5, 20, 200])
def test_one_cell_in_a_megapixel_of_noise_is_seen_and_not_saturated(snr):
    shape = (1024, 1024)
    plane = np.random.default_rng(1).normal(0, 1, shape) + snr * disc(shape, (500, 300), 13)
    found = intensity_range(plane)
    assert not found.is_empty
    inside = normalize(plane, found)[disc(shape, (500, 300), 8)]
    assert np.median(inside) < CLIP[1]
    assert np.median(inside) > 0.3


def test_one_cell_on_true_zero_is_seen():
    plane = np.where(disc((1024, 1024), (500, 300), 13), 40, 0).astype(np.uint8)
    found = intensity_range(plane)
    assert not found.is_empty
    assert (found.low, found.high) == (0, 40)


@pytest.mark.parametrize("snr", [2.0, 3.0])
def test_dim_cells_in_noise_are_seen(snr):
    shape, rng = (512, 512), np.random.default_rng(2)
    cells = np.zeros(shape, bool)
    for center in rng.uniform(20, 490, (40, 2)):
        cells |= disc(shape, center, 11)
    assert not intensity_range(rng.normal(200, 10, shape) + snr * 10 * cells).is_empty


def test_noise_is_not_stretched_beyond_the_floor():
    shape = (512, 512)
    plane = np.random.default_rng(3).normal(0, 1, shape) + 3 * disc(shape, (200, 200), 13)
    found = intensity_range(plane, contrast_floor=8.0)
    assert found.high - found.low >= 8 * 0.95  # the noise is 1


def test_channels_are_pooled_so_that_hue_stays():
    gray = scene()
    plane = np.stack([gray, 0.5 * gray, 0.25 * gray], axis=2)
    result = normalize(plane, intensity_range(plane))
    inside = (np.abs(result) < 1).all(axis=2)
    ratio = np.ptp(result[inside], axis=0)
    np.testing.assert_allclose(ratio / ratio[0], [1, 0.5, 0.25], rtol=1e-4)


def test_luminance_of_gray_is_gray():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_allclose(luminance(np.stack([gray] * 3, axis=2)), gray, rtol=1e-6)


class Windows:
    """A plane that counts the pixels that are read."""

    def __init__(self, array):
        self.array, self.shape, self.n_read = array, array.shape, 0

    def __getitem__(self, key):
        part = self.array[key]
        self.n_read += part.size
        return part


def test_a_huge_plane_is_sampled_and_the_sample_is_good():
    plane = np.tile(scene((256, 256)), (16, 16)).astype(np.float32)
    lazy = Windows(plane)
    found = intensity_range(lazy)
    exact = np.percentile(plane, (1, 99.8))
    assert 1e6 <= lazy.n_read < 0.3 * plane.size
    np.testing.assert_allclose((found.low, found.high), exact, rtol=0.01)
    assert found == intensity_range(plane)


@pytest.mark.parametrize("shape", [(3, 2_000_000), (2_000_000, 3), (100, 50_000)])
def test_extreme_shapes_are_sampled_within_bounds(shape):
    lazy = Windows(np.zeros(shape, np.uint8))
    assert intensity_range(lazy).is_empty
    assert lazy.n_read <= 1e7


def test_percentiles_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match=r"99\.0 and 1\.0; they must ascend"):
        intensity_range(scene(), (99.0, 1.0))


def test_complex_values_are_refused():
    with pytest.raises(TypeError, match="complex128; expected real numbers"):
        intensity_range(np.ones((4, 4), complex))


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (0, 4)])
def test_what_is_no_plane_is_refused(shape):
    with pytest.raises(ValueError, match="Plane has shape"):
        intensity_range(np.zeros(shape))


@pytest.mark.shared
def test_no_labeled_image_is_empty():
    if "DINOCELL_DATA" not in os.environ:
        pytest.skip("The data folder is needed; set DINOCELL_DATA to it.")
    folder = Path(os.environ["DINOCELL_DATA"])
    with open(folder / "index.csv", newline="") as file:
        images = [row["image"] for row in csv.DictReader(file) if int(row["n_instances"])]
    assert len(images) > 700
    assert [name for name in images if intensity_range(imread(folder / name)).is_empty] == []
