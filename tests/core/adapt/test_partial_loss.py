import numpy as np
import pytest
import torch

from napari_dinocell.core.adapt.loss import BaseMap, Known, partial_loss, ring_width, supervise
from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.prediction import Thresholds

AT = Thresholds(0.5, 0.2, 0, 0.0)
LIFT = 0.2


def disc(shape, center, radius):
    y, x = np.indices(shape)
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def known_of(labels, empty=None):
    areas = np.bincount(labels.ravel())
    diameters = 2 * np.sqrt(areas / np.pi)
    diameters[0] = 0
    return Known(
        labels,
        np.zeros_like(labels) if empty is None else empty,
        distance_map(labels, LIFT),
        np.ones(labels.shape, bool),
        diameters,
    )


def base_of(cells, coefficients=None):
    return BaseMap.of(distance_map(cells, LIFT), AT, coefficients or {})


def use(*numbers, n=9):
    mask = np.zeros(n, bool)
    mask[list(numbers)] = True
    return mask


@pytest.fixture
def three():
    """Labels of three discs in a row; 1 and 2 touch, 3 is far."""
    labels = np.zeros((64, 128), np.int32)
    labels[disc(labels.shape, (32, 20), 10)] = 1
    labels[disc(labels.shape, (32, 41), 10)] = 2
    labels[disc(labels.shape, (32, 100), 10)] = 3
    return labels


def test_labeled_cells_in_use_have_their_distance_and_weight_one(three):
    found = supervise(known_of(three), base_of(three), use(1, 2, 3), use())
    inside = three > 0
    assert (found.weight[inside] == 1).all()
    assert np.array_equal(found.target[inside], distance_map(three, LIFT)[inside])
    assert (found.target[~inside] == 0).all()


def test_held_out_cells_are_neither_trained_nor_pulled_nor_entered_by_rings(three):
    found = supervise(known_of(three), base_of(three), use(1, 3), use())
    inside = three == 2
    assert not found.weight[inside].any()
    assert not found.pull[inside].any()
    assert not found.ring[inside].any()


def test_the_ring_is_as_wide_as_design_says_and_falls_outwards():
    assert ring_width(np.array([8.0, 40.0, 200.0])) == pytest.approx([3, 5, 8])
    labels = np.zeros((96, 96), np.int32)
    labels[disc(labels.shape, (48, 48), 20)] = 1
    found = supervise(known_of(labels), base_of(labels * 0), use(1), use())
    row = found.weight[48]
    assert (row[69:74] > 0).all()
    assert row[74] == 0
    assert row[69] == 1
    assert (np.diff(row[69:74]) < 0).all()


def test_a_ring_does_not_enter_an_unlabeled_cell_that_the_base_sees(three):
    labeled = np.where(three == 1, 1, 0).astype(np.int32)
    found = supervise(known_of(labeled), base_of(three), use(1), use())
    assert not found.weight[three == 2].any()
    assert found.weight[three == 1].all()


def test_a_ring_counts_where_the_base_makes_the_labeled_cell_too_large():
    small, large = np.zeros((64, 64), np.int32), np.zeros((64, 64), np.int32)
    small[disc(small.shape, (32, 32), 10)] = 1
    large[disc(small.shape, (32, 32), 14)] = 1
    found = supervise(known_of(small), base_of(large), use(1), use())
    rim = (large > 0) & (small == 0) & (found.ring)
    assert rim.sum() > 100
    assert (found.weight[rim] > 0).all()
    assert not (found.pull > 0).any(), "a corrected cell is not pulled to its old shape"


def test_touching_labels_keep_a_valley():
    labels = np.zeros((40, 40), np.int32)
    labels[5:35, 5:19] = 1
    labels[5:35, 21:35] = 2
    merged = np.zeros_like(labels)
    merged[5:35, 5:35] = 1
    found = supervise(known_of(labels), base_of(merged), use(1, 2), use())
    assert (found.weight[5:35, 19:21] == 1).all()
    assert (found.target[5:35, 19:21] == 0).all()


def test_confident_unlabeled_cells_are_pulled_and_others_are_not(three):
    labeled = np.where(three == 1, 1, 0).astype(np.int32)
    found = supervise(known_of(labeled), base_of(three), use(1), use())
    assert (found.pull[three == 3] == 1).all()
    assert not (found.pull[three == 0] > 0).any()
    doubtful = {"intercept": -9.0, "height": 0.0, "prominence": 0.0, "mean": 0.0}
    found = supervise(known_of(labeled), base_of(three, doubtful), use(1), use())
    assert not (found.pull > 0).any()


def test_what_is_neither_annotated_nor_a_confident_cell_is_held_down(three):
    labeled = np.where(three == 1, 1, 0).astype(np.int32)
    found = supervise(known_of(labeled), base_of(np.where(three == 3, 0, three)), use(1), use())
    annotated = (labeled > 0) | found.ring
    assert (found.pull[(three == 3) & ~annotated] == -1).all(), "overlooked by the base"
    assert (found.pull[(three == 0) & ~annotated] == -1).all(), "background of the base"
    assert not found.pull[annotated].any()


def test_deleted_cells_are_background_and_are_not_pulled_even_when_held_out(three):
    labels = np.where(three == 1, 1, 0).astype(np.int32)
    empty = np.where(three == 3, 1, 0).astype(np.int32)
    in_use = supervise(known_of(labels, empty), base_of(three), use(1), use(1))
    assert (in_use.weight[three == 3] == 1).all()
    assert (in_use.target[three == 3] == 0).all()
    assert not in_use.pull[three == 3].any()
    held_out = supervise(known_of(labels, empty), base_of(three), use(1), use())
    assert not held_out.weight[three == 3].any()
    assert not held_out.pull[three == 3].any()


def test_padding_says_nothing(three):
    known = known_of(three)
    known.inside[:, 90:] = False
    found = supervise(known, base_of(three), use(1, 2, 3), use())
    assert not found.weight[:, 90:].any()
    assert not found.pull[:, 90:].any()


def maps(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def test_the_loss_has_its_closed_form():
    predicted = maps(0.5, 0.2, 0.9, 0.1)
    loss = partial_loss(
        predicted,
        target=maps(1.0, 0.0, 0.0, 0.0),
        weight=maps(1.0, 0.5, 0.0, 0.0),
        base=maps(0.0, 0.0, 0.4, 0.7),
        pull=maps(0.0, 0.0, 1.0, 1.0),
        up=2.0,
        down=3.0,
    )
    known = (0.5**2 + 0.5 * 0.2**2) / 1.5
    assert loss.item() == pytest.approx(known + 2 * (0.6**2) / 2)
    loss = partial_loss(
        predicted,
        target=maps(1.0, 0.0, 0.0, 0.0),
        weight=maps(1.0, 0.5, 0.0, 0.0),
        base=maps(0.0, 0.0, 0.4, 0.7),
        pull=maps(0.0, 0.0, -1.0, 1.0),
        up=2.0,
        down=3.0,
    )
    assert loss.item() == pytest.approx(known + 2 * 0.6**2 + 3 * 0.5**2)


def test_unknown_pixels_have_no_gradient_and_each_pull_is_one_sided():
    predicted = maps(0.5, 0.9, 0.3, 0.9, 0.3).requires_grad_()
    zero = maps(0.0, 0.0, 0.0, 0.0, 0.0)
    pull = maps(0.0, 1.0, 1.0, -1.0, -1.0)
    base = maps(0.8, 0.8, 0.8, 0.8, 0.8)
    partial_loss(predicted, zero, zero, base, pull, 1.0, 1.0).backward()
    gradient = predicted.grad.flatten()
    assert gradient[0] == 0, "unknown"
    assert gradient[1] == 0, "a confident cell that rises"
    assert gradient[2] < 0, "a confident cell that fades is pulled up"
    assert gradient[3] > 0, "anything else that rises is pulled down"
    assert gradient[4] == 0, "anything else may fade"
