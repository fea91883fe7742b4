import numpy as np
import pytest

from napari_dinocell.core.adapt.suggestion import suggest
from napari_dinocell.core.instances import flood
from napari_dinocell.core.prediction import Thresholds

AT = Thresholds(0.5, 0.1, 0, 0.1)


def bumps(*peaks, shape=(256, 320), width=8.0):
    """Map with Gaussian bumps (y, x, height)."""
    y, x = np.indices(shape)
    map_ = np.zeros(shape)
    for cy, cx, height in peaks:
        np.maximum(
            map_, height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2)), out=map_
        )
    return map_.astype(np.float32)


def contains(window, y, x):
    return window[0].start <= y < window[0].stop and window[1].start <= x < window[1].stop


def test_a_marker_at_the_threshold_is_what_to_look_at():
    tree = flood(bumps((50, 50, 0.95), (200, 270, 0.52), (60, 200, 0.9)))
    found = suggest(tree, AT, side=64)
    assert contains(found.window, 200, 270)
    assert (found.n_markers, found.n_saddles) == (1, 0)
    assert found.doubt == pytest.approx(np.exp(-(0.2**2)), abs=0.01)


def test_a_saddle_at_the_threshold_is_what_to_look_at():
    # Two bumps 2 d apart meet at h exp(-d^2 / 2 w^2): 0.5 for h = 0.95 and d = 1.133 w.
    half = 8 * np.sqrt(2 * np.log(0.95 / 0.5))
    pair = [(120, 160 - half, 0.95), (120, 160 + half, 0.95)]
    tree = flood(bumps((30, 40, 0.95), *pair))
    found = suggest(tree, AT, side=64)
    assert contains(found.window, 120, 150)
    assert found.n_saddles == 1


def test_the_window_with_most_doubt_wins_and_known_cells_do_not_count():
    crowd = [(200, 200, 0.5), (200, 230, 0.48), (225, 215, 0.55)]
    map_ = bumps((40, 40, 0.5), *crowd)
    tree = flood(map_)
    found = suggest(tree, AT, side=64)
    assert all(contains(found.window, y, x) for y, x, _ in crowd)
    assert found.n_markers == 3
    known = np.zeros(map_.shape, bool)
    known[180:, 180:] = True
    assert contains(suggest(tree, AT, known=known, side=64).window, 40, 40)


def test_nothing_is_suggested_where_nothing_is_in_doubt():
    assert suggest(flood(bumps((50, 50, 0.95), (60, 200, 0.95))), AT) is None
    assert suggest(flood(np.zeros((40, 40), np.float32)), AT) is None


def test_ripples_on_a_cell_are_no_doubt():
    rng = np.random.default_rng(0)
    map_ = bumps((100, 100, 0.55), width=20) + 0.002 * rng.random((256, 320)).astype(np.float32)
    found = suggest(flood(map_), AT, side=64)
    assert found.n_markers == 1
    assert found.doubt < 1.5


def test_a_small_plane_is_suggested_whole():
    found = suggest(flood(bumps((10, 10, 0.5), shape=(30, 20))), AT, side=128)
    assert found.window == (slice(0, 30), slice(0, 20))


def test_what_does_not_fit_is_one_sentence():
    tree = flood(bumps((50, 50, 0.5)))
    with pytest.raises(ValueError, match="Known places have the shape"):
        suggest(tree, AT, known=np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="Side is 0"):
        suggest(tree, AT, side=0)
