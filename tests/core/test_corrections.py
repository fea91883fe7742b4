"""Verified cells stay as they are, whatever the thresholds make of the rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_dinocell.core.corrections import (
    FIRST_VERIFIED,
    REJECTED,
    Cells,
    accept,
    cells_under,
    combine,
    merge,
    painted,
    reject,
    split,
)
from napari_dinocell.core.precedence import give_way

planes = arrays(np.uint16, (9, 11), elements=st.integers(0, 4))


def ids_and_areas(plane):
    ids, areas = np.unique(plane[plane > 0], return_counts=True)
    return ids, areas


def apply(edit, corrected):
    result = corrected.copy()
    result[edit.y, edit.x] = edit.values
    return result


def two_squares(gap):
    plane = np.zeros((20, 40), np.uint16)
    plane[5:15, 4:14] = 7
    plane[5:15, 14 + gap : 24 + gap] = 9
    return plane, np.zeros_like(plane)


def dumbbell():
    """Two discs of radius 9 that share a neck; the map has its valley at column 20."""
    y, x = np.mgrid[:24, :41]
    left, right = np.hypot(y - 12, x - 12), np.hypot(y - 12, x - 28)
    mask = np.minimum(left, right) <= 9
    distance = np.where(mask, np.maximum(1 - left / 10, 1 - right / 10), 0)
    return mask.astype(np.uint16) * 3, distance.astype(np.float32)


@settings(deadline=None, max_examples=150)
@given(planes, planes)
def test_the_preview_never_shows_a_pixel_that_the_corrected_plane_speaks_of(preview, corrected):
    ids, areas = ids_and_areas(preview)
    before = preview.copy()
    left = give_way(preview, corrected, ids, areas)
    assert not preview[corrected > 0].any()
    for cell, area, rest in zip(ids, areas, left, strict=True):
        covered = np.count_nonzero((before == cell) & (corrected > 0))
        assert rest == (0 if 2 * covered > area else area - covered)
        assert np.count_nonzero(preview == cell) == rest
    assert set(np.unique(preview)) <= set(np.unique(before)) | {0}


def test_an_empty_corrected_plane_changes_nothing():
    plane, corrected = two_squares(0)
    before = plane.copy()
    left = give_way(plane, corrected, *ids_and_areas(plane))
    np.testing.assert_array_equal(plane, before)
    assert left.tolist() == [100, 100]


def test_a_line_finds_the_cells_in_the_order_in_which_it_touches_them():
    plane, corrected = two_squares(3)
    corrected[0:3, 30:40] = 5
    path = [(10, 22), (10, 6), (1, 6), (1, 100)]
    assert cells_under(path, plane, corrected) == Cells((9, 7), (5,))


def test_accepting_keeps_the_shape_under_a_new_id():
    plane, corrected = two_squares(0)
    edit = accept(Cells((9,)), plane, corrected, 12)
    np.testing.assert_array_equal(apply(edit, corrected) == 12, plane == 9)


def test_rejecting_works_on_preview_and_verified_cells():
    plane, corrected = two_squares(0)
    corrected[16:19, :5] = 4
    result = apply(reject(Cells((7,), (4,)), plane, corrected), corrected)
    np.testing.assert_array_equal(result == REJECTED, (plane == 7) | (corrected == 4))


@pytest.mark.parametrize("gap", [0, 1, 4])
def test_merging_makes_one_connected_cell_of_both(gap):
    plane, corrected = two_squares(gap)
    result = apply(merge(Cells((7, 9)), plane, corrected, 2), corrected)
    expected = np.zeros_like(plane)
    expected[5:15, 4 : 24 + gap] = 2
    np.testing.assert_array_equal(result, expected)


def test_distant_cells_and_single_ones_are_not_merged():
    plane, corrected = two_squares(12)
    with pytest.raises(ValueError, match="do not touch"):
        merge(Cells((7, 9)), plane, corrected, 2)
    with pytest.raises(ValueError, match="two cells"):
        merge(Cells((7,)), plane, corrected, 2)


def test_merging_does_not_run_over_a_third_cell():
    plane, corrected = two_squares(4)
    corrected[5:15, 15:17] = 6
    with pytest.raises(ValueError, match="do not touch"):
        merge(Cells((7, 9)), plane, corrected, 8)


def test_splitting_follows_the_valley_of_the_map_also_where_the_line_is_slanted():
    plane, distance = dumbbell()
    corrected = np.zeros_like(plane)
    result = apply(split([(0, 17), (23, 23)], plane, corrected, distance, 5), corrected)
    assert set(np.unique(result)) == {0, 5, 6}
    np.testing.assert_array_equal(result > 0, plane > 0)
    columns = np.broadcast_to(np.arange(41), plane.shape)
    assert columns[result == 5].max() <= 20
    assert columns[result == 6].min() >= 20


def test_a_line_that_ends_inside_a_cell_splits_nothing():
    plane, distance = dumbbell()
    with pytest.raises(ValueError, match="from edge to edge"):
        split([(0, 12), (10, 12)], plane, np.zeros_like(plane), distance, 5)


@pytest.mark.parametrize("path", [[(0, 20), (23, 20)], [(23, 22), (0, 18)], [(12, 0), (12, 40)]])
def test_splitting_gives_every_pixel_of_the_cell_to_a_part(path):
    plane, distance = dumbbell()
    result = apply(split(path, plane, np.zeros_like(plane), distance, 2), np.zeros_like(plane))
    np.testing.assert_array_equal(result > 0, plane > 0)
    assert len(np.unique(result)) == 3


def test_painting_verifies_the_cells_that_changed_and_no_other():
    before, corrected = two_squares(3)
    after = before.copy()
    after[5:7, 4:14] = 0
    after[16:18, 30:33] = 21
    result = apply(painted(before, after, corrected, 40), corrected)
    assert set(np.unique(result)) == {0, REJECTED, 40, 41}
    np.testing.assert_array_equal(result == REJECTED, (before == 7) & (after == 0))
    np.testing.assert_array_equal(result == 40, after == 7)
    np.testing.assert_array_equal(result == 41, after == 21)


@settings(deadline=None, max_examples=100)
@given(planes, planes)
def test_combined_labels_hold_each_cell_once_with_consecutive_ids(preview, corrected):
    give_way(preview, corrected, *ids_and_areas(preview))
    labels = combine(preview, corrected)
    verified = np.where(corrected >= FIRST_VERIFIED, corrected, 0)
    n = len(np.unique(preview[preview > 0])) + len(np.unique(verified[verified > 0]))
    assert np.unique(labels[labels > 0]).tolist() == list(range(1, n + 1))
    np.testing.assert_array_equal(labels > 0, (preview > 0) | (verified > 0))
    for plane in (preview, verified):
        for cell in np.unique(plane[plane > 0]):
            assert len(np.unique(labels[plane == cell])) == 1
