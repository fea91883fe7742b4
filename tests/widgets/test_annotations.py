"""What corrections and drawn regions say, as arrays: without a viewer."""

import numpy as np
import pytest

pytest.importorskip("napari")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_dinocell.core.corrections import FIRST_VERIFIED, REJECTED
from napari_dinocell.widgets.annotations import (
    AnnotatedLayer,
    count,
    examples,
    known_plane,
    rectangles,
)
from napari_dinocell.widgets.origin import Origin
from napari_dinocell.widgets.parts import LayerPart
from napari_dinocell.widgets.placement import Placement


def origin(pixels, axes):
    n = pixels.ndim
    placement = Placement(
        np.ones(n), np.zeros(n), np.eye(n), np.eye(n), np.eye(n + 1), ("pixel",) * n, tuple(axes)
    )
    window = tuple(slice(0, length) for length in pixels.shape)
    return Origin(LayerPart("image", pixels, axes, window, placement), scale=1.0)


def rectangle(top, bottom, left, right, *outer):
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    return np.array([(*outer, y - 0.5, x - 0.5) for y, x in corners]), "rectangle"


@given(arrays(bool, st.tuples(st.integers(0, 9), st.integers(1, 9))))
@settings(deadline=None, max_examples=60)
def test_rectangles_cover_a_mask_exactly_and_once(mask):
    covered = np.zeros(mask.shape, int)
    for top, bottom, left, right in rectangles(mask):
        assert top < bottom
        assert left < right
        covered[top:bottom, left:right] += 1
    np.testing.assert_array_equal(covered, mask.astype(int))


def test_a_drawn_rectangle_is_one_rectangle_again():
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:17] = True
    assert rectangles(mask) == [(3, 9, 4, 17)]


def plane_with_cells():
    preview = np.zeros((40, 50), np.uint16)
    preview[5:10, 5:10] = 1  # inside of the region
    preview[8:12, 18:26] = 2  # crosses its edge
    preview[30:35, 30:35] = 3  # outside
    corrected = np.zeros((40, 50), np.uint16)
    corrected[20:24, 5:9] = FIRST_VERIFIED
    corrected[30:33, 5:9] = REJECTED
    return preview, corrected


def test_unlabeled_is_unknown_deleted_is_background_and_regions_take_their_cells_whole():
    preview, corrected = plane_with_cells()
    pixels = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    one = AnnotatedLayer(origin(pixels, "YX"), corrected, preview, [rectangle(2, 16, 2, 22)])
    (example,) = examples([one])
    np.testing.assert_array_equal(example.image.array, pixels)
    assert len(np.unique(example.labels)) - 1 == 3
    np.testing.assert_array_equal(example.labels > 0, (corrected > 1) | np.isin(preview, (1, 2)))
    np.testing.assert_array_equal(example.background, corrected == REJECTED)
    complete = np.zeros((40, 50), bool)
    complete[2:16, 2:22] = True
    np.testing.assert_array_equal(example.complete_regions, complete)
    counts = count([one])
    assert (counts.images, counts.cells, counts.deleted, counts.regions) == (1, 3, 1, 1)
    np.testing.assert_array_equal(
        known_plane(one, {}), (example.labels > 0) | example.background | complete
    )


def test_without_anything_said_there_is_no_example():
    preview, corrected = plane_with_cells()
    one = AnnotatedLayer(origin(np.zeros((40, 50)), "YX"), np.zeros_like(corrected), preview, [])
    assert examples([one]) == []
    assert count([one]).images == 0
    assert "Nothing is annotated" in count([one]).sentence()


@pytest.mark.parametrize("axis", [0, 2])
def test_a_region_of_a_stack_belongs_to_the_plane_that_it_was_drawn_on(axis):
    preview, _corrected = plane_with_cells()
    axes = "ZYX" if axis == 0 else "YXZ"
    stack = np.stack([np.zeros((40, 50), np.uint16)] * 3, axis)
    pixels = np.stack([np.full((40, 50), n, np.uint16) for n in range(3)], axis)
    points, kind = rectangle(2, 16, 2, 22)
    points = np.insert(points, axis, 2, axis=1)
    previews = np.stack([preview] * 3, axis)
    one = AnnotatedLayer(origin(pixels, axes), stack, previews, [(points, kind)])
    (example,) = examples([one])
    assert (np.asarray(example.image.array) == 2).all()
    np.testing.assert_array_equal(example.labels > 0, np.isin(preview, (1, 2)))
    assert known_plane(one, {"Z": 2}).sum() > 0
    assert known_plane(one, {"Z": 1}).sum() == 0


def test_an_ellipse_is_a_region_and_a_line_is_none():
    box = np.array([(10, 10), (10, 30), (30, 30), (30, 10)], float)
    zeros = np.zeros((40, 50), np.uint16)
    one = AnnotatedLayer(origin(zeros, "YX"), zeros, None, [(box, "ellipse")])
    known = known_plane(one, {})
    assert known[20, 20]
    assert not known[11, 11]
    assert abs(known.sum() - np.pi * 100) < 20
