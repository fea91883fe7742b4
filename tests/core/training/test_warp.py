"""The geometry of crops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.warp import Warp, draw_warp

UNIT = IntensityRange(0.0, 1.0, is_empty=False)


def affine(matrix, center, size=32):
    return Warp(size, np.array(matrix, float), np.array(center, float), np.zeros((2, 4, 4)), 16)


def drawn(seed, shape=(300, 260), size=64, scale=1.0, **changes):
    config = AugmentConfig.off(**changes)
    return draw_warp(shape, np.zeros((0, 2)), size, scale, config, np.random.default_rng(seed))


def texture(shape=(120, 90), seed=0):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_image_and_labels_equal_scipy_on_the_same_positions(seed):
    plane = texture((120, 90))
    labels = (plane * 9).astype(np.int32)
    warp = drawn(seed, plane.shape, rotate=1, shear=1, flip=0.5, elastic=1)
    points = warp.positions(0)
    expected = ndimage.map_coordinates(plane, points, order=1, mode="mirror")
    shrink = np.sqrt(abs(np.linalg.det(warp.matrix)))
    assert shrink == pytest.approx(1, abs=0.2)
    if shrink <= 1:
        np.testing.assert_allclose(warp.image(plane, UNIT)[0], expected, atol=1e-5)
    nearest = ndimage.map_coordinates(labels, points, order=0, mode="mirror")
    assert (warp.labels(labels, 0) == nearest).mean() > 0.999


def test_flips_and_quarter_turns_commute_with_the_warp():
    plane = texture((65, 65))
    center = (32.0, 32.0)
    straight = affine(np.eye(2), center, 65)
    np.testing.assert_array_equal(straight.image(plane, UNIT)[0], plane)
    upside_down = affine([[-1, 0], [0, 1]], center, 65)
    np.testing.assert_array_equal(upside_down.image(plane, UNIT)[0], plane[::-1])
    turned = affine([[0, -1], [1, 0]], center, 65)
    np.testing.assert_array_equal(turned.image(plane, UNIT)[0], np.rot90(plane, -1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 5), (40, 7)])
def test_positions_beyond_the_plane_show_its_mirror_image(shape):
    plane = texture((64, 64))[: shape[0], : shape[1]]
    warp = affine(np.eye(2), ((shape[0] - 1) / 2 + 0.5 * (shape[0] % 2 == 1), 3.5), 64)
    points = warp.positions(0)
    expected = np.pad(plane, 200, mode="reflect" if min(shape) > 1 else "symmetric")
    if min(shape) > 1:
        y, x = (np.round(points) + 200).astype(int)
        on_grid = np.allclose(points, np.round(points))
        assert on_grid
        np.testing.assert_array_equal(warp.image(plane, UNIT)[0], expected[y, x])
    else:
        assert np.isin(
            warp.labels((plane * 99).astype(np.int32), 0), (plane * 99).astype(int)
        ).all()


def test_margin_extends_the_same_warp():
    for seed in range(4):
        warp = drawn(seed, rotate=1, shear=1, elastic=1, scale=1.0)
        wide = warp.positions(20)
        np.testing.assert_allclose(wide[:, 20:-20, 20:-20], warp.positions(0), atol=1e-9)


def test_margin_holds_the_boxes_and_not_much_more():
    warp = affine(np.eye(2) / 2, (100, 100), 64)  # shows 84 ... 116
    assert warp.margin(np.zeros((0, 4))) == 0
    box = np.array([[70.0, 95.0, 90.0, 100.0]])  # begins 14 px above, that is 28 px of the crop
    assert 28 <= warp.margin(box) <= 34
    points = warp.positions(warp.margin(box))
    assert points[0].min() <= 70


def test_elastic_warp_does_not_fold_the_plane():
    for seed in range(30):
        warp = drawn(seed, size=256, shape=(600, 600), elastic=1)
        points = warp.positions(64)
        dy, dx = np.gradient(points[0]), np.gradient(points[1])
        determinant = dy[0] * dx[1] - dy[1] * dx[0]
        assert determinant.min() > 0.2
    assert np.abs(points - drawn(29, size=256, shape=(600, 600)).positions(64)).max() > 0.5


def test_crops_lie_inside_planes_that_are_large_enough():
    for seed in range(40):
        warp = drawn(seed, shape=(130, 200), size=64, rotate=1, right_angle=1, flip=1)
        assert warp.is_inside((130, 200)).all()


def test_crop_larger_than_the_plane_is_centered_on_it():
    warp = drawn(0, shape=(40, 50), size=64)
    inside = warp.is_inside((40, 50))
    assert inside.sum() == 40 * 50
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert abs((rows[0] + rows[-1]) / 2 - 31.5) <= 1
    assert abs((columns[0] + columns[-1]) / 2 - 31.5) <= 1


def test_every_part_of_the_plane_is_shown():
    shown = np.zeros((150, 150), bool)
    for seed in range(300):
        y, x = np.round(drawn(seed, shape=shown.shape).positions(0)).astype(int)
        shown[y, x] = True
    assert shown.mean() > 0.99
