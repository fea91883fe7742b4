"""Distance map of labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_dinocell.core.distance import distance_map, lift_threshold

EIGHT = np.ones((3, 3))
blocks = arrays(
    np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)
)


def one_by_one(labels):
    """The definition, instance by instance, with SciPy's transform on padded boxes."""
    expected = np.zeros(labels.shape)
    for label in np.unique(labels[labels > 0]):
        pieces, n_pieces = ndimage.label(labels == label, EIGHT)
        for piece in range(1, n_pieces + 1):
            inside = pieces == piece
            distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
            expected[inside] = (distance / distance.max())[inside]
    return expected


@settings(deadline=None, max_examples=60)
@given(blocks, st.integers(1, 6), st.integers(1, 6))
def test_map_equals_the_definition_applied_to_one_instance_at_a_time(coarse, grow_y, grow_x):
    labels = np.kron(coarse, np.ones((grow_y, grow_x), np.int32))
    distance = distance_map(labels)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance, one_by_one(labels), atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(blocks, st.sampled_from([0.1, 0.2, 0.35]))
def test_lift_raises_instances_and_leaves_background_at_zero(coarse, lift):
    labels = np.kron(coarse, np.ones((4, 3), np.int32))
    plain, lifted = distance_map(labels), distance_map(labels, lift=lift)
    np.testing.assert_allclose(
        lifted, np.where(labels > 0, lift + (1 - lift) * plain, 0), atol=1e-6
    )
    assert np.all(lifted[labels == 0] == 0)
    assert np.all(lifted[labels > 0] > lift)


@settings(deadline=None, max_examples=30)
@given(blocks, st.integers(0, 3), st.permutations([0, 1, 2]))
def test_map_does_not_depend_on_orientation_or_on_ids(coarse, quarter_turns, order):
    labels = np.kron(coarse, np.ones((3, 4), np.int32))
    renamed = np.concatenate([[0], 10 + 7 * np.array(order)])[labels]
    expected = np.rot90(distance_map(labels), quarter_turns)[:, ::-1]
    turned = distance_map(np.rot90(renamed, quarter_turns)[:, ::-1])
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("radius", [3, 10, 31, 60])
def test_disc_falls_linearly_and_its_edge_is_worth_one_over_the_radius(radius):
    y, x = np.mgrid[-radius - 2 : radius + 3, -radius - 2 : radius + 3]
    distance = distance_map((np.hypot(y, x) <= radius).astype(int))
    assert distance[radius + 2, radius + 2] == 1
    # Nearest outside pixel of the center: (radius + 1, 0) or a closer diagonal one.
    maximum = np.hypot(y, x)[np.hypot(y, x) > radius].min()
    assert distance[2, radius + 2] == pytest.approx(1 / maximum)
    across = distance[radius + 2]
    inside = np.hypot(0, x[0]) <= radius
    np.testing.assert_allclose(
        across[inside], 1 - np.abs(x[0, inside]) / maximum, atol=1.3 / radius
    )


def test_touching_instances_keep_a_valley():
    labels = np.zeros((9, 20), int)
    labels[1:8, 1:10], labels[1:8, 10:19] = 1, 2
    distance = distance_map(labels)
    assert distance[4, 9] == distance[4, 10] == pytest.approx(1 / 4)
    assert distance[4, 5] == distance[4, 14] == 1


def test_pieces_of_one_label_are_scaled_on_their_own():
    labels = np.zeros((12, 24), int)
    labels[1:10, 1:10] = labels[4:7, 15:18] = 5
    distance = distance_map(labels)
    assert distance[5, 5] == distance[5, 16] == 1


def test_pieces_that_touch_at_a_corner_are_one():
    labels = np.zeros((9, 9), int)
    labels[1:6, 1:6] = labels[6:7, 6:7] = 1
    assert distance_map(labels)[6, 6] == pytest.approx(1 / 3)


def test_border_of_the_array_counts_as_outside():
    np.testing.assert_allclose(
        distance_map(np.ones((5, 40), int))[:, 20], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]
    )


def test_transform_before_cropping_keeps_the_cut_instance():
    labels = np.zeros((40, 40), int)
    labels[10:31, 10:31] = 1
    cropped = distance_map(labels)[:, :20]
    # The half in the crop rises up to the crop's border, as its other half were there.
    assert cropped[20, 19] == pytest.approx(10 / 11)
    assert distance_map(labels[:, :20])[20, 19] < 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.uint32, bool])
def test_any_integer_kind_gives_the_same_map(dtype):
    labels = np.zeros((7, 8), dtype)
    labels[2:6, 1:6] = 1
    labels.flags.writeable = False
    np.testing.assert_array_equal(distance_map(labels), distance_map(labels.astype(np.int32)))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 7), (6, 1)])
def test_empty_planes_give_zeros_of_their_shape(shape):
    distance = distance_map(np.zeros(shape, int))
    assert distance.shape == shape
    assert not distance.any()


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (np.zeros((2, 3, 4), int), ValueError, "one plane"),
        (np.zeros((3, 4)), TypeError, "must be integers"),
        (np.full((3, 4), -1), ValueError, "must not be negative"),
        (np.full((3, 4), 2**31), ValueError, "fit into 32 bits"),
    ],
)
def test_bad_labels_are_refused_with_a_sentence(labels, error, words):
    with pytest.raises(error, match=words):
        distance_map(labels)


@pytest.mark.parametrize("lift", [-0.1, 1.0, float("nan")])
def test_lift_outside_of_its_range_is_refused(lift):
    with pytest.raises(ValueError, match="Lift"):
        distance_map(np.ones((3, 3), int), lift=lift)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.floats(0, 0.9))
def test_lifted_threshold_cuts_where_the_plain_one_does(threshold, lift):
    labels = np.kron(np.array([[1, 1, 2], [0, 1, 2]]), np.ones((9, 9), int))
    plain = one_by_one(labels)
    lifted = np.where(labels > 0, lift + (1 - lift) * plain, 0)
    clear = np.abs(plain - threshold) > 1e-9
    same = (plain > threshold) == (lifted > lift_threshold(threshold, lift))
    assert np.all(same[clear & (labels > 0)])


def test_lifted_peak_of_the_default_is_the_documented_one():
    assert lift_threshold(0.47, 0.2) == pytest.approx(0.576)
    assert lift_threshold(0.47, 0.0) == 0.47
    with pytest.raises(ValueError, match="Threshold is"):
        lift_threshold(1.2, 0.2)
