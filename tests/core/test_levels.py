"""Quantization of the distance map and its thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.instances import flood
from napari_dinocell.core.levels import LEVELS, level, quantize


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(0, LEVELS))
def test_comparing_with_a_level_is_comparing_with_the_threshold(threshold, value):
    assert (value > level(threshold)) == (value > threshold * LEVELS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_quantization_rounds_to_the_nearest_level(dtype):
    distance = np.linspace(0, 1, 64).reshape(8, 8).astype(dtype)
    quantized = quantize(distance)
    assert quantized.dtype == np.uint16
    assert np.abs(quantized / LEVELS - distance.astype(float)).max() <= 0.51 / LEVELS
    assert quantized[0, 0] == 0
    assert quantized[-1, -1] == LEVELS


def test_uint16_map_is_taken_as_it_is():
    quantized = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert flood(quantized).quantized is quantized


def test_threshold_itself_is_not_exceeded_by_a_pixel_that_equals_it():
    quantized = np.full((3, 3), 40000, np.uint16)
    assert len(flood(quantized).cut(40000 / LEVELS, 0.1).ids) == 0
    assert len(flood(quantized).cut(39999 / LEVELS, 0.1).ids) == 1


def test_blending_errors_beyond_the_range_are_clipped():
    np.testing.assert_array_equal(quantize(np.array([[-1e-6, 1 + 1e-6]])), [[0, LEVELS]])


@pytest.mark.parametrize(
    ("distance", "error", "words"),
    [
        (np.full((3, 3), np.nan), ValueError, "NaN"),
        (np.array([[0.1, np.inf]]), ValueError, "NaN or infinity"),
        (np.full((3, 3), 255.0), ValueError, r"runs from 255 to 255; it must lie in \[0, 1\]"),
        (np.full((3, 3), -0.5), ValueError, "must lie in"),
        (np.zeros((2, 3, 3)), ValueError, "one plane"),
        (np.zeros((3, 3), np.uint8), TypeError, "expected floats"),
    ],
)
def test_bad_maps_are_refused_with_a_sentence(distance, error, words):
    with pytest.raises(error, match=words):
        flood(distance)
