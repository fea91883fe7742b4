"""Confidence of cells and its calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.confidence import (
    TERMS,
    auroc,
    confidence,
    drop_uncertain,
    features,
    fit_confidence,
)
from napari_dinocell.core.instances import flood

TRUE = {"intercept": -4.0, "height": 3.0, "prominence": 2.5, "mean": 1.5}


def three_cells():
    distance = np.zeros((9, 30))
    distance[2:7, 2:7], distance[2:7, 12:17], distance[2:7, 22:27] = 0.6, 0.8, 1.0
    return flood(distance).cut(0.5, 0.1)


def logit(p):
    return np.log(p / (1 - p))


def test_confidence_is_the_logistic_of_a_weighted_sum():
    cut = three_cells()
    expected = -4 + 3 * cut.heights + 2.5 * cut.prominences + 1.5 * cut.means
    np.testing.assert_allclose(logit(confidence(cut, TRUE)), expected)
    # Highest cell first, and higher, more prominent cells are surer.
    assert np.all(np.diff(confidence(cut, TRUE)) < 0)


@pytest.mark.parametrize("dtype", [np.int32, np.uint16])
def test_uncertain_cells_become_background_and_the_others_stay_as_they_are(dtype):
    cut = three_cells()
    chances = confidence(cut, TRUE)
    labels = cut.labels.astype(dtype)
    sure = drop_uncertain(cut, TRUE, float(chances[1]), labels)
    np.testing.assert_array_equal(sure.ids, cut.ids[:2])
    np.testing.assert_array_equal(confidence(sure, TRUE), chances[:2])
    np.testing.assert_array_equal(sure.areas, cut.areas[:2])
    expected = np.where(np.isin(cut.labels, cut.ids[:2]), cut.labels, 0)
    np.testing.assert_array_equal(labels, expected)
    assert sure.labels is labels
    assert not drop_uncertain(cut, TRUE, 1.0).labels.any()


def test_no_least_confidence_drops_nothing():
    cut = three_cells()
    before = cut.labels.copy()
    np.testing.assert_array_equal(drop_uncertain(cut, TRUE, 0.0).labels, before)


def test_no_cells_have_no_confidence():
    assert confidence(flood(np.zeros((5, 5))).cut(0.5, 0.1), TRUE).shape == (0,)


def test_fit_finds_the_coefficients_that_made_the_data():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (40_000, 3))
    chance = 1 / (1 + np.exp(-(-4 + x @ [3, 2.5, 1.5])))
    fit = fit_confidence(x, rng.random(len(x)) < chance)
    assert tuple(fit.coefficients) == TERMS
    # Standard errors at this n are about 0.05.
    np.testing.assert_allclose(list(fit.coefficients.values()), list(TRUE.values()), atol=0.2)
    assert fit.n_hits + fit.n_misses == len(x)


def test_fit_is_calibrated_on_its_own_data():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (500, 3))
    hits = x[:, 0] + 0.3 * rng.standard_normal(500) > 0.4
    coefficients = fit_confidence(x, hits, ridge=1e-6).coefficients
    predicted = 1 / (
        1 + np.exp(-(coefficients["intercept"] + x @ [coefficients[t] for t in TERMS[1:]]))
    )
    # At the maximum of the likelihood the residual is orthogonal to 1 and to each feature.
    assert predicted.mean() == pytest.approx(hits.mean(), abs=1e-6)
    np.testing.assert_allclose(x.T @ (predicted - hits), 0, atol=1e-3)


@pytest.mark.parametrize("hits", [np.ones(20, bool), np.zeros(20, bool), np.arange(20) < 10])
def test_fit_stays_finite_without_misses_and_with_separable_ones(hits):
    x = np.column_stack([np.linspace(1, 0, 20), np.full(20, 0.5), np.linspace(0, 1, 20)])
    fit = fit_confidence(x, hits)
    assert np.isfinite(list(fit.coefficients.values())).all()
    assert np.isnan(fit.auroc) if len(set(hits)) == 1 else fit.auroc == 1


def test_features_are_height_prominence_and_mean():
    cut = three_cells()
    np.testing.assert_array_equal(
        features(cut), np.transpose([cut.heights, cut.prominences, cut.means])
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auroc_is_the_share_of_pairs_in_the_right_order(pairs):
    scores, hits = np.array([s for s, _ in pairs]), np.array([h for _, h in pairs])
    if hits.all() or not hits.any():
        assert np.isnan(auroc(scores, hits))
        return
    good, bad = scores[hits][:, None], scores[~hits][None, :]
    assert auroc(scores, hits) == pytest.approx(np.mean((good > bad) + 0.5 * (good == bad)))


@pytest.mark.parametrize(
    ("x", "hits", "ridge", "words"),
    [
        (np.zeros((4, 2)), np.zeros(4, bool), 1.0, "Features have shape"),
        (np.zeros((4, 3)), np.zeros(5, bool), 1.0, "Features have shape"),
        (np.zeros((0, 3)), np.zeros(0, bool), 1.0, "n > 0"),
        (np.full((4, 3), np.nan), np.zeros(4, bool), 1.0, "NaN"),
        (np.zeros((4, 3)), np.zeros(4, bool), 0.0, "Ridge"),
    ],
)
def test_bad_training_cells_are_refused_with_a_sentence(x, hits, ridge, words):
    with pytest.raises(ValueError, match=words):
        fit_confidence(x, hits, ridge)


def test_foreign_coefficients_are_refused():
    with pytest.raises(ValueError, match="expected"):
        confidence(three_cells(), {"intercept": 0.0, "height": 1.0})
