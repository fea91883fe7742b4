import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_dinocell.core.distance import distance_map, lift_threshold
from napari_dinocell.core.instances import flood
from napari_dinocell.core.metrics import pool, score_image
from napari_dinocell.core.training.tuning import (
    Case,
    ThresholdGrid,
    Thresholds,
    objective,
    tune_thresholds,
)

GRID = ThresholdGrid.for_lift(0.2)


def discs(*radii: int, gap: int = 3) -> np.ndarray:
    """A row of discs, one id each."""
    size = 2 * max(radii) + 2 * gap
    labels = np.zeros((size, size * len(radii)), dtype=np.int32)
    for number, radius in enumerate(radii):
        y, x = np.indices((size, size)) - size // 2
        labels[:, number * size : (number + 1) * size][y**2 + x**2 <= radius**2] = number + 1
    return labels


def noisy_case(seed: int, set_name: str = "a", noise: float = 0.08) -> Case:
    rng = np.random.default_rng(seed)
    truth = discs(*rng.integers(4, 12, 4))
    field = ndimage.gaussian_filter(rng.normal(size=truth.shape), 1.0)
    distance = distance_map(truth, 0.2) + noise * field / field.std()
    return Case(f"{seed}", set_name, flood(np.clip(distance, 0, 1)), truth)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.sampled_from(GRID.peak),
    st.sampled_from(GRID.fill),
    st.sampled_from(GRID.min_area),
    st.sampled_from(GRID.min_prominence),
)
def test_scoring_basins_equals_scoring_the_labels_of_the_cut(seed, peak, fill, area, prominence):
    case = noisy_case(seed, noise=0.2)
    at = Thresholds(peak, fill, area, prominence)
    labels = case.tree.cut(peak, fill, min_area=area, min_prominence=prominence).labels
    by_labels = score_image(case.truth, labels)
    by_basins = case.score(at)
    assert vars(by_basins) == pytest.approx(vars(by_labels))


def test_fill_of_a_plain_map_may_lie_above_the_noise_around_cells():
    truth = discs(8, 8, 10)
    haze = np.where(truth > 0, distance_map(truth, 0.0), 0.06).astype(np.float32)
    case = Case("x", "a", flood(haze), truth)
    tuned = tune_thresholds([case], ThresholdGrid.for_lift(0.0))
    assert 0.06 < tuned.thresholds.fill <= 0.14
    assert tuned.objective > 0.9


@pytest.mark.parametrize("lift", [0.1, 0.2, 0.3])
def test_every_fill_of_the_grid_keeps_the_rim_of_perfect_discs_up_to_60_px(lift):
    grid = ThresholdGrid.for_lift(lift)
    assert grid.fill[-1] <= lift_threshold(1 / 60, lift)
    for radius in (3, 7, 20, 40, 60):
        truth = discs(radius)
        tree = flood(distance_map(truth, lift))
        for peak in (grid.peak[0], grid.peak[-1]):
            cut = tree.cut(peak, grid.fill[-1], min_area=grid.min_area[-1])
            assert pool([score_image(truth, cut.labels)]).seg >= 0.999


def test_grid_stays_above_the_floor_and_below_one():
    for lift in (0.0, 0.5, 0.9):
        grid = ThresholdGrid.for_lift(lift)
        assert all(0.005 <= fill < peak < 1 for fill in grid.fill for peak in grid.peak)


def test_perfect_maps_are_tuned_to_a_perfect_score_without_filters():
    truth = discs(4, 6, 9)
    tuned = tune_thresholds([Case("x", "a", flood(distance_map(truth, 0.2)), truth)], GRID)
    assert tuned.objective == pytest.approx(1.0)
    assert (tuned.thresholds.min_area, tuned.thresholds.min_prominence) == (0, 0.0)
    # All peaks are equally good here: the middle is the safest.
    middle = (GRID.peak[0] + GRID.peak[-1]) / 2
    assert abs(tuned.thresholds.peak - middle) <= 0.05


def test_tuning_finds_the_peak_between_noise_and_cells():
    # Cells reach 1, spurious bumps 0.55: every good peak lies between.
    truth = discs(8, 8, 8, 8)
    bumps = discs(8, 8, 8, 8)
    truth[truth % 2 == 0] = 0
    distance = np.where(truth > 0, distance_map(truth, 0.2), 0.55 * distance_map(bumps, 0.2))
    tuned = tune_thresholds([Case("x", "a", flood(distance.astype(np.float32)), truth)], GRID)
    assert tuned.objective == pytest.approx(1.0)
    assert tuned.thresholds.peak > 0.55


def test_tuning_uses_the_area_filter_against_specks():
    truth = discs(8, 8)
    labels = truth.copy()
    labels[1:3, 1::7] = np.arange(3, 3 + labels[1, 1::7].size)  # specks of two pixels
    tuned = tune_thresholds([Case("x", "a", flood(distance_map(labels, 0.2)), truth)], GRID)
    assert tuned.thresholds.min_area == 5
    assert tuned.objective == pytest.approx(1.0)


def test_tuned_thresholds_are_at_least_as_good_as_any_pair_without_filters():
    cases = [noisy_case(seed, "ab"[seed % 2], noise=0.15) for seed in range(6)]
    tuned = tune_thresholds(cases, GRID)
    reached = objective(cases, [case.score(tuned.thresholds) for case in cases])
    assert reached == pytest.approx(tuned.objective)
    for peak in GRID.peak:
        for fill in GRID.fill:
            at = Thresholds(peak, fill)
            assert objective(cases, [case.score(at) for case in cases]) <= reached + 1e-9
    assert tune_thresholds(cases, GRID) == tuned


def test_objective_weighs_sets_equally_and_leaves_out_those_without_cells():
    good, bad = discs(5), discs(5)
    case = {
        "good": Case("1", "big", flood(distance_map(good, 0.2)), good),
        "missed": Case("2", "small", flood(np.zeros(bad.shape, np.float32)), bad),
        "empty": Case("3", "none", flood(np.zeros((8, 8), np.float32)), np.zeros((8, 8), np.int32)),
    }
    cases = [case["good"]] * 9 + [case["missed"], case["empty"]]
    scores = [c.score(Thresholds(0.5, 0.2)) for c in cases]
    assert objective(cases, scores) == pytest.approx((1 + 0) / 2)


def test_unannotated_pixels_count_for_nothing():
    truth = discs(6, 6)
    tree = flood(distance_map(truth, 0.2))
    unknown = np.where(truth == 2, -1, truth)
    score = Case("x", "a", tree, unknown).score(Thresholds(0.5, 0.21))
    assert (score.n_true, score.tp90, score.n_spurious) == (1, 1, 0)


def test_nothing_to_tune_on_is_said():
    empty = np.zeros((8, 8), np.int32)
    with pytest.raises(ValueError, match="No validation image has a reference cell"):
        tune_thresholds([Case("x", "a", flood(np.zeros((8, 8), np.float32)), empty)], GRID)


def test_seconds_are_unknown_unless_measured():
    assert math.isnan(noisy_case(0).seconds)
