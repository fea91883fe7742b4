import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.lazy import ChunkedArray


class Source:
    """Counts the elements that are read from it."""

    def __init__(self, array, chunks=None):
        self.array, self.chunks = array, chunks
        self.shape, self.dtype = array.shape, array.dtype
        self.n_read = 0

    def __getitem__(self, key):
        part = self.array[key]
        self.n_read += part.size
        return part


ARRAY = np.arange(3 * 17 * 23, dtype=">i4").reshape(3, 17, 23)

_slices = st.builds(
    slice,
    st.none() | st.integers(-30, 30),
    st.none() | st.integers(-30, 30),
    st.none() | st.integers(1, 9),
)


@settings(deadline=None, max_examples=80)
@given(st.tuples(st.integers(-3, 2) | _slices, _slices, _slices), st.integers(1, 9), st.data())
def test_any_slice_equals_that_of_numpy(key, chunk, data):
    n_keys = data.draw(st.integers(0, 3))
    array = ChunkedArray(Source(ARRAY, (1, chunk, chunk + 2)), "a", cache_bytes=500)
    np.testing.assert_array_equal(array[key[:n_keys]], ARRAY[key[:n_keys]])


@pytest.mark.parametrize("key", [..., (..., 3), (1, ...), (1, ..., slice(2, 5)), (2, 16, 22)])
def test_ellipsis_and_numbers_equal_those_of_numpy(key):
    array = ChunkedArray(Source(ARRAY, (2, 5, 7)), "a")
    np.testing.assert_array_equal(array[key], ARRAY[key])
    assert array[key].dtype.isnative


def test_each_chunk_is_decoded_once_while_it_fits():
    source = Source(ARRAY, (1, 5, 7))
    array = ChunkedArray(source, "a")
    for y in range(15):
        array[0, y : y + 3]
    assert source.n_read == 17 * 23


def test_the_cache_keeps_to_its_bound_and_drops_the_oldest():
    source = Source(ARRAY, (1, 17, 23))
    array = ChunkedArray(source, "a", cache_bytes=2 * 17 * 23 * 4)
    for z in (0, 1, 0, 2, 0):
        array[z]
    assert source.n_read == 3 * 17 * 23
    array[1]
    assert source.n_read == 4 * 17 * 23


def test_a_source_without_chunks_is_read_in_blocks():
    source = Source(np.zeros((5, 3000, 4000), np.uint16))
    array = ChunkedArray(source, "a")
    array[3, :100, :100]
    assert source.n_read < 3 * 2**20


@pytest.mark.parametrize("key", [(0, 0, 0, 0), (3,), (0, 17)])
def test_positions_that_are_not_there_are_refused(key):
    with pytest.raises(IndexError):
        ChunkedArray(Source(ARRAY), "a")[key]


def test_negative_steps_are_refused():
    with pytest.raises(IndexError, match="Negative steps"):
        ChunkedArray(Source(ARRAY), "a")[::-1]


def test_axes_of_length_one_can_be_dropped():
    array = ChunkedArray(Source(ARRAY[np.newaxis, :, np.newaxis]), "a").without_axes((0, 2))
    assert (array.shape, array.ndim, array.nbytes) == ((3, 17, 23), 3, ARRAY.nbytes)
    np.testing.assert_array_equal(array[1:, 4, ::2], ARRAY[1:, 4, ::2])
    with pytest.raises(ValueError, match="length 1"):
        ChunkedArray(Source(ARRAY), "a").without_axes((0,))


class Broken(Source):
    def __getitem__(self, key):
        if key[0].start == 2:
            raise RuntimeError("bad data\nwith details")
        return super().__getitem__(key)


def test_damage_is_named_with_its_place_and_the_rest_stays_readable():
    array = ChunkedArray(Broken(ARRAY, (1, 17, 23)), "cells.zarr")
    with pytest.raises(ImageFileError, match=r"cells.zarr, at \(2, 0, 0\), is damaged.*bad data"):
        array[1:]
    np.testing.assert_array_equal(array[1], ARRAY[1])
