"""Tiles: the identity as network gives the plane back; weights, coverage, streaming, padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.tiles import MULTIPLE, Blender, TileGrid

sizes = st.integers(1, 100)


class Rows:
    """Sink that checks that rows come once and in order."""

    def __init__(self, shape, dtype):
        self.array = np.full(shape, np.nan, dtype)
        self.next = 0

    def __call__(self, top, rows):
        assert top == self.next
        self.array[top : top + len(rows)] = rows
        self.next = top + len(rows)


def through_the_grid(plane, grid, dtype=np.float64):
    rows = Rows(plane.shape, dtype)
    blender = Blender(grid, rows, dtype)
    for index in range(len(grid)):
        blender.add(grid.read(plane, index))
    assert blender.is_done
    assert rows.next == grid.height
    return rows.array


@pytest.mark.parametrize(
    "shape", [(1, 1), (50, 50), (100, 600), (257, 256), (2048, 2048), (449, 7)]
)
def test_identity_gives_the_plane_back_to_four_ulp(shape):
    plane = np.random.default_rng(0).normal(size=shape)
    result = through_the_grid(plane, TileGrid(*shape))
    assert np.all(np.abs(result - plane) <= 4 * np.spacing(np.abs(plane)))


def rounding(grid):
    """Relative error of a sum that has a few roundings for each tile; hundreds may overlap."""
    return 4 * np.finfo(np.float64).eps * len(grid)


@settings(deadline=None, max_examples=30)
@given(sizes, sizes, st.integers(1, 6), st.data())
def test_identity_holds_for_any_size_tile_and_overlap(height, width, eighths, data):
    tile = 8 * eighths
    overlap = data.draw(st.integers(0, tile - 1))
    plane = np.random.default_rng(0).normal(size=(height, width))
    grid = TileGrid(height, width, tile, overlap)
    result = through_the_grid(plane, grid)
    np.testing.assert_allclose(result, plane, rtol=rounding(grid))


@settings(deadline=None, max_examples=30)
@given(sizes, sizes, st.integers(1, 6), st.data())
def test_weights_are_positive_and_sum_to_one_at_every_pixel(height, width, eighths, data):
    tile = 8 * eighths
    grid = TileGrid(height, width, tile, data.draw(st.integers(0, tile - 1)))
    total = np.zeros((height, width))
    for index, window in enumerate(grid.windows):
        weights = grid.weights(index)
        inside = weights[: height - window.top, : width - window.left]
        assert (inside > 0).all()
        total[window.top : window.bottom, window.left : window.right] += inside
        assert weights.sum() == pytest.approx(inside.sum())
    np.testing.assert_allclose(total, 1, rtol=rounding(grid))


@settings(deadline=None, max_examples=30)
@given(sizes, sizes, st.integers(1, 6), st.data())
def test_neighboring_tiles_share_at_least_the_overlap_and_lie_inside(height, width, eighths, data):
    tile = 8 * eighths
    overlap = data.draw(st.integers(0, tile - 1))
    grid = TileGrid(height, width, tile, overlap)
    tops = sorted({window.top for window in grid.windows})
    steps = np.diff(tops)
    assert (steps <= tile - overlap).all()
    assert (steps > 0).all()
    assert not len(steps) or steps.max() - steps.min() <= 1
    assert all(side % MULTIPLE == 0 and side <= tile for side in grid.tile_shape)
    assert grid.windows[-1].bottom - height < MULTIPLE
    assert grid.windows[-1].right - width < MULTIPLE


@pytest.mark.parametrize(("size", "bound"), [(256, 1.0), (512, 2.25), (1024, 1.8), (2048, 1.9)])
def test_redundancy_is_bounded(size, bound):
    assert TileGrid(size, size).redundancy <= bound


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 1), (8, 8)), ((50, 50), (56, 56)), ((100, 600), (104, 256))]
)
def test_small_planes_are_padded_to_a_multiple_of_eight_only(shape, expected):
    assert TileGrid(*shape).tile_shape == expected


def test_padding_reflects_where_it_can():
    plane = np.arange(5.0)[None].repeat(8, axis=0)
    np.testing.assert_array_equal(TileGrid(8, 5).read(plane, 0)[0], [0, 1, 2, 3, 4, 3, 2, 1])


def test_padding_repeats_a_single_pixel():
    np.testing.assert_array_equal(TileGrid(1, 1).read(np.full((1, 1), 7.0), 0), np.full((8, 8), 7))


def test_color_is_padded_along_y_and_x_only():
    plane = np.random.default_rng(0).random((5, 9, 3))
    tile = TileGrid(5, 9).read(plane, 0)
    assert tile.shape == (8, 16, 3)
    np.testing.assert_array_equal(tile[:5, :9], plane)


def test_edges_of_tiles_hardly_count_where_another_tile_is_there():
    """A map that is wrong within 16 px of inner tile edges blends to the right one."""
    grid = TileGrid(600, 700)
    rows = Rows((600, 700), np.float64)
    blender = Blender(grid, rows, np.float64)
    for window in grid.windows:
        wrong = np.zeros(grid.tile_shape)
        for edge, limit, side in (
            (window.top, 0, np.s_[:16]),
            (window.bottom, 600, np.s_[-16:]),
            (window.left, 0, np.s_[:, :16]),
            (window.right, 700, np.s_[:, -16:]),
        ):
            if edge != limit:
                wrong[side] = 1.0
        blender.add(wrong)
    assert rows.array.max() < 1 / 65535 / 2  # less than half a step of the stored map


def test_blending_keeps_only_a_row_of_tiles():
    grid = TileGrid(4000, 64, 64, 16)
    held = []
    blender = Blender(grid, lambda top, rows: held.append((top, len(rows))))
    for _ in range(len(grid)):
        blender.add(np.zeros(grid.tile_shape, np.float32))
    assert max(count for _, count in held) <= 64
    assert sum(count for _, count in held) == 4000


def test_rows_handed_on_do_not_change_later():
    grid = TileGrid(300, 64, 64, 16)
    blocks = []
    blender = Blender(grid, lambda top, rows: blocks.append((rows, rows.copy())))
    for index in range(len(grid)):
        blender.add(np.full(grid.tile_shape, index, np.float32))
    assert all(np.array_equal(now, then) for now, then in blocks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "no pixel to tile"),
        ((5, 5, 100), "100 px; it must be a positive multiple of 8"),
        ((5, 5, 64, 64), "must be at least 0 and below the tile of 64 px"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TileGrid(*arguments)
