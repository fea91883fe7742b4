"""Scaling of planes and maps against torch's own resampling, by windows and by rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from napari_dinocell.core.rescale import RowRestorer, ScaledPlane


def resized(plane, shape, antialias):
    x = torch.from_numpy(plane)[None, None]
    y = interpolate(x, shape, mode="bilinear", align_corners=False, antialias=antialias)
    return y[0, 0].numpy()


@pytest.mark.parametrize("scale", [0.1, 0.25, 0.37, 0.9, 1.3, 2.0, 4.6])
def test_scaled_plane_equals_antialiased_interpolation_of_the_whole(scale):
    plane = np.random.default_rng(0).random((61, 47), np.float32)
    scaled = ScaledPlane(plane, scale)
    expected = resized(plane, scaled.shape, antialias=True)
    np.testing.assert_allclose(scaled[:, :], expected, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.1, 4), st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_window_equals_that_part_of_the_whole(scale, height, width, data):
    scaled = ScaledPlane(np.random.default_rng(0).random((height, width), np.float32), scale)
    window = []
    for length in scaled.shape:
        start = data.draw(st.integers(0, length - 1))
        window.append(slice(start, data.draw(st.integers(start + 1, length))))
    np.testing.assert_allclose(scaled[tuple(window)], scaled[:, :][tuple(window)], atol=1e-5)


def test_colors_are_scaled_one_by_one():
    plane = np.random.default_rng(0).random((30, 40, 3), np.float32)
    result = ScaledPlane(plane, 0.5)[:, :]
    assert result.shape == (15, 20, 3)
    for channel in range(3):
        alone = ScaledPlane(plane[..., channel], 0.5)[:, :]
        np.testing.assert_allclose(result[..., channel], alone, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_restored_rows_equal_interpolation_of_the_whole(sizes, portions):
    scaled, original = sizes[:2], sizes[2:]
    map_ = np.random.default_rng(0).random(scaled, np.float32)
    result = np.full(original, np.nan, np.float32)
    arrived = []

    def sink(top, rows):
        arrived.extend(range(top, top + len(rows)))
        result[top : top + len(rows)] = rows

    restorer = RowRestorer(scaled, original, sink)
    top = 0
    while top < scaled[0]:
        rows = map_[top : top + portions[top % len(portions)]]
        restorer(top, rows)
        top += len(rows)
    assert arrived == list(range(original[0]))
    np.testing.assert_allclose(result, resized(map_, original, antialias=False), atol=1e-5)
