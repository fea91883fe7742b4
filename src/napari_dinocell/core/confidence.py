"""How likely a cell is right: a logistic formula of three numbers that every cut knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from napari_dinocell.core.lookup import rename

if TYPE_CHECKING:
    from napari_dinocell.core.instances import Cut

FloatArray = npt.NDArray[np.float64]
TERMS = ("intercept", "height", "prominence", "mean")


@dataclass(frozen=True)
class ConfidenceFit:
    """Coefficients by name, ready for the model card, and how well they sort hits from misses.

    `auroc` is the chance that a random hit has a higher confidence than a random miss; NaN if
    there was only one kind.
    """

    coefficients: dict[str, float]
    auroc: float
    n_hits: int
    n_misses: int


def features(cut: Cut) -> FloatArray:
    """Height, prominence and mean of each cell as columns of an (n, 3) float64 array."""
    return np.column_stack([cut.heights, cut.prominences, cut.means]).astype(np.float64)


def confidence(cut: Cut, coefficients: Mapping[str, float]) -> FloatArray:
    """Probability that each cell overlaps a true one with IoU > 0.5.

    Parameters
    ----------
    cut : Cut
        n cells.
    coefficients : mapping
        From the model card, with the keys ``intercept``, ``height``, ``prominence``, ``mean``.

    Returns
    -------
    (n,) float64 array
        In [0, 1], in the order of ``cut.ids``.

    Raises
    ------
    ValueError
        If a coefficient is missing or unknown.
    """
    chance: FloatArray = expit(_design(features(cut)) @ _vector(coefficients))
    return chance


def drop_uncertain(
    cut: Cut,
    coefficients: Mapping[str, float],
    least: float,
    labels: npt.NDArray[np.integer] | None = None,
) -> Cut:
    """Make background of the cells that are likely wrong.

    Parameters
    ----------
    cut : Cut
        n cells.
    coefficients : mapping
        As for `confidence`.
    least : float
        In [0, 1]. Cells of a lower confidence go.
    labels : (Y, X) int array, optional
        With the ids of the cut; changed in place. Those of the cut if None.

    Returns
    -------
    Cut
        The cells that stay, in the same array.
    """
    keep = confidence(cut, coefficients) >= least
    labels = cut.labels if labels is None else labels
    if not keep.all():
        names = np.zeros(int(cut.ids[-1]) + 1, labels.dtype)
        names[cut.ids[keep]] = cut.ids[keep]
        rename(labels, names)
    return replace(
        cut,
        labels=labels,
        ids=cut.ids[keep],
        areas=cut.areas[keep],
        heights=cut.heights[keep],
        prominences=cut.prominences[keep],
        means=cut.means[keep],
    )


def fit_confidence(
    cell_features: npt.ArrayLike, hits: npt.ArrayLike, ridge: float = 1.0
) -> ConfidenceFit:
    """Fit the formula to cells of which is known whether they were right.

    Parameters
    ----------
    cell_features : (n, 3) float array
        Rows as from `features`, of one or many images.
    hits : (n,) bool array
        True where the cell has IoU > 0.5 with a true one.
    ridge : float, default 1
        Penalty on the squared slopes of standardized features, in units of one cell; keeps them
        finite where hits and misses can be separated.

    Returns
    -------
    ConfidenceFit

    Raises
    ------
    ValueError
        If the shapes don't fit, a feature is not finite, or `ridge` is not positive.

    Notes
    -----
    Maximum likelihood by Newton's method; the penalized problem is convex, so that the result
    doesn't depend on a start. The AUROC is that of the same cells: for an honest figure score
    others with `auroc`.
    """
    x = np.asarray(cell_features, np.float64)
    y = np.asarray(hits, bool)
    if x.ndim != 2 or x.shape[1] != 3 or y.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"Features have shape {x.shape} and hits {y.shape}; give (n, 3) and (n,), n > 0."
        )
    if not np.isfinite(x).all():
        raise ValueError("Features hold NaN or infinity; leave those cells out.")
    if not ridge > 0:
        raise ValueError(f"Ridge is {ridge}; it must be positive.")
    center = x.mean(axis=0)
    scale = np.where(x.std(axis=0) > 1e-12, x.std(axis=0), 1.0)
    slopes = _newton(_design((x - center) / scale), y.astype(np.float64), ridge)
    weights = slopes[1:] / scale
    vector = np.concatenate([[slopes[0] - weights @ center], weights])
    return ConfidenceFit(
        coefficients=dict(zip(TERMS, map(float, vector), strict=True)),
        auroc=auroc(_design(x) @ vector, y),
        n_hits=int(y.sum()),
        n_misses=int((~y).sum()),
    )


def auroc(scores: npt.ArrayLike, hits: npt.ArrayLike) -> float:
    """Chance that a random hit scores higher than a random miss, ties counting half.

    Parameters
    ----------
    scores : (n,) float array
        Any increasing function of the confidence.
    hits : (n,) bool array

    Returns
    -------
    float
        In [0, 1]; NaN if there are no hits or no misses.

    Examples
    --------
    >>> auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    0.75
    """
    good = np.asarray(hits, bool)
    n_hits, n_misses = int(good.sum()), int((~good).sum())
    if n_hits == 0 or n_misses == 0:
        return float("nan")
    values = np.asarray(scores, np.float64)
    in_order = np.sort(values)
    # Mean of the first and the last place of equal values. scipy.stats would take longer to import
    # than all the rest of what segments.
    ranks = (np.searchsorted(in_order, values) + np.searchsorted(in_order, values, "right") + 1) / 2
    return float((ranks[good].sum() - n_hits * (n_hits + 1) / 2) / (n_hits * n_misses))


def _design(x: FloatArray) -> FloatArray:
    """Features with a leading column of ones."""
    return np.column_stack([np.ones(len(x)), x])


def _vector(coefficients: Mapping[str, float]) -> FloatArray:
    if set(coefficients) != set(TERMS):
        raise ValueError(
            f"Confidence coefficients are {sorted(coefficients)}; expected {sorted(TERMS)}."
        )
    return np.array([coefficients[term] for term in TERMS], np.float64)


def _newton(design: FloatArray, y: FloatArray, ridge: float) -> FloatArray:
    """Minimize the logistic loss plus ridge / 2 * |slopes|**2, with step halving."""
    # A trace of ridge on the intercept keeps it finite when all cells are hits.
    penalty = np.diag([1e-3 * ridge] + [ridge] * (design.shape[1] - 1))

    def loss(w: FloatArray) -> float:
        z = design @ w
        return float(np.logaddexp(0, z).sum() - y @ z + 0.5 * w @ penalty @ w)

    w = np.zeros(design.shape[1])
    for _ in range(100):
        p = expit(design @ w)
        gradient = design.T @ (p - y) + penalty @ w
        if np.abs(gradient).max() < 1e-8 * len(y):
            break
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + penalty, gradient)
        size = 1.0
        while loss(w - size * step) > loss(w) and size > 1e-6:
            size /= 2
        w = w - size * step
    return w
