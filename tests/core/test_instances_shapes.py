"""Cells cut from maps whose shape is known: perfect, flat, saturated, noisy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_dinocell.core.distance import distance_map, lift_threshold
from napari_dinocell.core.instances import flood

LIFT = 0.2
PEAK, FILL = lift_threshold(0.47, LIFT), 0.13


def disc(radius, margin=3):
    y, x = np.mgrid[-radius - margin : radius + margin + 1, -radius - margin : radius + margin + 1]
    return (np.hypot(y, x) <= radius).astype(np.int32)


def many_discs(shape=(400, 400), step=50, radius=20):
    """Labels of discs on a grid, none touching."""
    labels = np.zeros(shape, np.int32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for i in range(shape[0] // step):
        for j in range(shape[1] // step):
            inside = np.hypot(y - (i + 0.5) * step, x - (j + 0.5) * step) <= radius
            labels[inside] = i * (shape[1] // step) + j + 1
    return labels


def dumbbell(radius=20, neck=11, gap=60):
    y, x = np.mgrid[-30:31, -30 : gap + 31]
    ends = (np.hypot(y, x) <= radius) | (np.hypot(y, x - gap) <= radius)
    return (ends | ((np.abs(y) <= neck // 2) & (x >= 0) & (x <= gap))).astype(np.int32)


def seg(true, found):
    """Mean intersection over union of true cells, 0 below a covered half (Maška et al. 2014)."""
    scores = []
    for cell in np.unique(true[true > 0]):
        own = true == cell
        partner = np.bincount(found[own]).argmax()
        overlap = np.sum(own & (found == partner))
        good = partner > 0 and 2 * overlap > own.sum()
        scores.append(overlap / np.sum(own | (found == partner)) if good else 0.0)
    return float(np.mean(scores))


@pytest.mark.parametrize("fill", [0.05, 0.13, 0.2])
def test_perfect_lifted_map_gives_back_discs_of_any_radius(fill):
    for radius in range(3, 61):
        labels = disc(radius)
        cut = flood(distance_map(labels, lift=LIFT)).cut(PEAK, fill)
        assert len(cut.ids) == 1, radius
        assert seg(labels, cut.labels) >= 0.999, radius


def test_lifted_thresholds_cut_the_lifted_map_where_the_plain_ones_cut_the_plain_map():
    labels = disc(30)
    plain = flood(distance_map(labels)).cut(0.47, 0.09)
    lifted = flood(distance_map(labels, lift=LIFT)).cut(PEAK, lift_threshold(0.09, LIFT))
    np.testing.assert_array_equal(plain.labels > 0, lifted.labels > 0)


@pytest.mark.parametrize("radius", [5, 10, 12, 20, 30, 60])
def test_plain_map_at_the_default_thresholds_loses_the_rim_of_large_discs(radius):
    labels = disc(radius)
    cut = flood(distance_map(labels)).cut(0.47, 0.09)
    distance = ndimage.distance_transform_edt(labels)
    # What is lost is what lies within 9 % of the inradius of the edge.
    expected = np.sum(distance > 0.09 * distance.max()) / labels.sum()
    assert seg(labels, cut.labels) == pytest.approx(expected)
    assert expected == 1 if radius <= 10 else 0.83 < expected < 0.89


def test_crescent_is_one_cell():
    y, x = np.mgrid[-40:41, -40:41]
    crescent = ((np.hypot(y, x) <= 35) & (np.hypot(y, x - 12) > 24)).astype(np.int32)
    center = np.round(np.argwhere(crescent).mean(axis=0)).astype(int)
    assert crescent[tuple(center)] == 0, "the centroid must lie outside, or the shape is no test"
    cut = flood(distance_map(crescent, lift=LIFT)).cut(PEAK, FILL)
    assert len(cut.ids) == 1
    assert seg(crescent, cut.labels) >= 0.999


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6])
def test_bars_from_one_pixel_on_are_one_cell_each(width):
    labels = np.zeros((40, 60), np.int32)
    labels[5 : 5 + width, 5:45], labels[20:50, 50 : 50 + width] = 1, 2
    cut = flood(distance_map(labels, lift=LIFT)).cut(PEAK, FILL)
    assert len(cut.ids) == 2
    assert seg(labels, cut.labels) == 1


def test_dumbbell_splits_at_the_default_thresholds_and_joins_by_prominence():
    tree = flood(distance_map(dumbbell()))
    cut = tree.cut(0.47, 0.09)
    assert len(cut.ids) == 2
    # Half of the neck's 11 px over the inradius of the ends, each to the pixel outside.
    saddle = 6 / ndimage.distance_transform_edt(dumbbell()).max()
    np.testing.assert_allclose(cut.prominences, 1 - saddle, atol=1e-4)
    joined = tree.cut(0.47, 0.09, min_prominence=1 - saddle + 0.01)
    assert len(joined.ids) == 1
    assert len(tree.cut(saddle - 0.01, 0.09).ids) == 1


def test_touching_discs_are_two_cells_with_the_border_where_it_was():
    labels = np.zeros((60, 110), np.int32)
    y, x = np.mgrid[:60, :110]
    labels[np.hypot(y - 30, x - 30) <= 25] = 1
    labels[(np.hypot(y - 30, x - 76) <= 25) & (labels == 0)] = 2
    cut = flood(distance_map(labels, lift=LIFT)).cut(PEAK, FILL)
    assert len(cut.ids) == 2
    assert seg(labels, cut.labels) > 0.99


def test_filters_keep_noise_from_making_cells():
    labels = many_discs()
    noise = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(labels.shape), 2)
    distance = np.clip(distance_map(labels, lift=LIFT) + 0.07 * noise / noise.std(), 0, 1)
    tree = flood(distance)
    free = tree.cut(PEAK, FILL)
    filtered = tree.cut(PEAK, FILL, min_area=50, min_prominence=0.2)
    assert len(free.ids) > labels.max(), "the noise must make cells, or this tests nothing"
    assert len(filtered.ids) == labels.max()
    assert seg(labels, filtered.labels) > 0.9


def test_isolated_noise_peaks_go_by_area():
    distance = np.zeros((50, 50))
    distance[10:30, 10:30], distance[40, 40] = 0.9, 0.8
    tree = flood(distance)
    assert len(tree.cut(0.5, 0.1).ids) == 2
    assert len(tree.cut(0.5, 0.1, min_area=2).ids) == 1


@pytest.mark.parametrize("value", [0.6, 1.0])
def test_flat_map_above_peak_is_one_cell_and_one_basin(value):
    tree = flood(np.full((64, 80), value))
    cut = tree.cut(0.5, 0.1)
    assert len(tree.heights) == 2
    assert np.all(cut.labels == 1)
    assert cut.areas[0] == 64 * 80
    assert cut.means[0] == cut.heights[0] == cut.prominences[0] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_flat_map_below_peak_has_no_cells(value):
    cut = flood(np.full((64, 80), value)).cut(0.5, 0.1)
    assert not cut.labels.any()
    for column in (cut.ids, cut.areas, cut.heights, cut.prominences, cut.means):
        assert column.shape == (0,)


def test_saturated_plateau_of_any_shape_is_one_basin():
    # A ring and a comb: by index order alone both would fall into several basins.
    distance = np.full((30, 60), 0.02)
    y, x = np.mgrid[:30, :60]
    distance[(np.hypot(y - 15, x - 15) <= 12) & (np.hypot(y - 15, x - 15) > 9)] = 1
    distance[20, 35:56] = 1
    distance[5:21, 35:56:4] = 1
    tree = flood(distance)
    assert np.sum(tree.heights == 65535) == 2
    assert len(tree.cut(0.5, 0.1).ids) == 2


def test_flat_bridge_is_shared_by_the_peaks_at_its_ends():
    distance = np.zeros((3, 23))
    distance[1, 1:22] = 0.3
    distance[1, 1] = distance[1, 21] = 0.9
    cut = flood(distance).cut(0.5, 0.1)
    assert sorted(cut.areas) == [10, 11]
    assert cut.labels[1, 10] == cut.labels[1, 1]
    assert cut.labels[1, 12] == cut.labels[1, 21]


def test_minimum_area_keeps_a_cell_of_just_that_area():
    distance = np.zeros((20, 20))
    distance[5:10, 5:10] = 0.8
    tree = flood(distance)
    assert len(tree.cut(0.5, 0.1, min_area=25).ids) == 1
    assert len(tree.cut(0.5, 0.1, min_area=26).ids) == 0


def test_saddle_above_peak_makes_one_marker_of_two_maxima():
    distance = np.array([[0.9, 0.6, 0.8]])
    tree = flood(distance)
    assert len(tree.cut(0.55, 0.1).ids) == 1
    assert len(tree.cut(0.65, 0.1).ids) == 2


def test_prominence_filter_acts_between_just_below_and_just_above_the_prominence():
    tree = flood(np.array([[0.9, 0.5, 0.7]]))
    assert len(tree.cut(0.6, 0.1, min_prominence=0.19).ids) == 2
    assert len(tree.cut(0.6, 0.1, min_prominence=0.21).ids) == 1


def test_cell_without_prominence_joins_the_neighbor_over_its_highest_saddle():
    distance = np.array([[0.9, 0.2, 0.7, 0.6, 0.95]])
    cut = flood(distance).cut(0.65, 0.1, min_prominence=0.15)
    assert len(cut.ids) == 2
    assert cut.labels[0, 2] == cut.labels[0, 4] != cut.labels[0, 0]
    np.testing.assert_allclose(cut.prominences, [0.75, 0.7], atol=1e-4)


def test_maximum_below_peak_joins_the_cell_that_it_touches_and_vanishes_beyond_fill():
    distance = np.array([[0.9, 0.3, 0.4, 0.05, 0.4]])
    cut = flood(distance).cut(0.5, 0.1)
    np.testing.assert_array_equal(cut.labels > 0, [[True, True, True, False, False]])
    assert len(cut.ids) == 1


def test_ids_stay_while_both_thresholds_move():
    labels = many_discs()
    tree = flood(distance_map(labels, lift=LIFT))
    # The center of each disc is its maximum, and is in its cell at any threshold.
    pairs = [(0.3, 0.02), (0.576, 0.13), (0.7, 0.3), (0.9, 0.6)]
    names = [tree.cut(peak, fill).labels[25::50, 25::50].ravel().tolist() for peak, fill in pairs]
    assert names[0] == names[1] == names[2] == names[3]
    assert len(set(names[0])) == 64


def test_labels_are_written_into_the_array_given():
    tree = flood(distance_map(many_discs(), lift=LIFT))
    layer = np.full((400, 400), 9, np.uint16)
    window = (slice(50, 150), slice(100, 300))
    cut = tree.cut(PEAK, FILL, window=window, out=layer[window])
    np.testing.assert_array_equal(layer[window], tree.cut(PEAK, FILL).labels[window])
    assert cut.labels.base is layer
    assert np.all(layer[:50] == 9)


def test_ids_too_large_for_the_array_given_are_refused():
    labels = np.kron(np.arange(400).reshape(20, 20), np.pad(np.ones((3, 3), int), 1))
    tree = flood(distance_map(labels, lift=LIFT))
    with pytest.raises(ValueError, match="too small for id 399"):
        tree.cut(PEAK, FILL, out=np.empty(labels.shape, np.uint8))
