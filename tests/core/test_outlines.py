import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.measure import points_in_poly

from napari_dinocell.core.outlines import cells, parts, polygons, signed_area

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def filled(rings, shape):
    """Pixels whose centers lie within an odd number of rings."""
    y, x = np.indices(shape).reshape(2, -1) + 0.5
    inside = np.zeros(shape, int)
    for ring in rings:
        inside += points_in_poly(np.stack([y, x], 1), ring).reshape(shape)
    return inside % 2 == 1


@settings(deadline=None, max_examples=40)
@given(masks)
def test_polygons_enclose_exactly_the_pixels(mask):
    found = polygons(mask)
    np.testing.assert_array_equal(
        filled([ring for polygon in found for ring in polygon], mask.shape), mask
    )
    assert sum(signed_area(ring) for polygon in found for ring in polygon) == mask.sum()


@settings(deadline=None, max_examples=40)
@given(masks)
def test_there_is_one_polygon_per_part_without_rings_that_touch_themselves(mask):
    found = polygons(mask)
    assert len(found) == ndimage.label(mask)[1]
    for outer, *holes in found:
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)


@settings(deadline=None, max_examples=40)
@given(masks)
def test_each_part_that_hangs_together_by_corners_has_one_outline(mask):
    found = parts(mask)
    n_parts = ndimage.label(mask, np.ones((3, 3)))[1]
    assert len(found) == n_parts
    # 8-connected parts have 4-connected holes.
    without_holes = ndimage.binary_fill_holes(mask)
    if n_parts == 1 and (without_holes == mask).all():
        assert signed_area(found[0]) == mask.sum()


def test_a_single_pixel_is_a_square():
    (ring,) = parts(np.ones((1, 1), bool))
    assert sorted(ring.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_straight_edges_have_no_points_between_their_corners():
    (ring,) = parts(np.ones((20, 30), bool))
    assert len(ring) == 4
    assert signed_area(ring) == 600


def test_a_ring_that_closes_by_a_corner_has_a_hole():
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    ((outer, hole),) = polygons(mask)
    assert signed_area(outer) == 8
    assert signed_area(hole) == -1


@pytest.mark.parametrize("scale", [1, 1000, 2**31])
def test_every_cell_is_found_with_its_box(scale):
    labels = np.zeros((6, 8), np.int64)
    labels[1:3, 2:5] = scale
    labels[5, 7] = 2 * scale
    found = list(cells(labels))
    assert [(cell_id, corner) for cell_id, corner, _ in found] == [
        (scale, (1, 2)),
        (2 * scale, (5, 7)),
    ]
    assert found[0][2].shape == (2, 3)


def test_a_plane_without_background_or_cells_is_fine():
    assert [cell_id for cell_id, *_ in cells(np.full((2, 2), 5))] == [5]
    assert list(cells(np.zeros((2, 2), int))) == []
