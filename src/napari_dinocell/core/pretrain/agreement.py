"""Whether features of one field agree across its channels, and only those of one field.

A mean cosine alone proves nothing: it is 1 for a network that answers everything alike. Every
figure here therefore stands beside its controls: other fields in the same channel, other fields in
other channels, chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """Mean over groups, with its 95 % bootstrap interval over groups (nan for a single group)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Sequence[float], *, seed: int = 0, n_draws: int = 2000) -> Interval:
    """Mean and interval of one value per group."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        mean = float(x.mean()) if len(x) else float("nan")
        return Interval(mean, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = x[rng.integers(len(x), size=(n_draws, len(x)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(x.mean()), float(low), float(high))


def similarities(features: Array) -> Array:
    """Cosines of all pairs.

    Parameters
    ----------
    features : (n, C, D) array
        Of n tiles in C channels.

    Returns
    -------
    (C, C, n, n) array
        ``[i, j, f, g]``: tile f in channel i against tile g in channel j.
    """
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    z = features / np.maximum(norms, 1e-12)
    cosines: Array = np.einsum("fid,gjd->ijfg", z, z)
    return cosines


def centered(features: Array) -> Array:
    """Features minus the mean of their channel over the tiles: what a channel always has is gone."""
    difference: Array = features - features.mean(axis=0, keepdims=True)
    return difference


def cosine_triplet(cosines: Array) -> tuple[float, float, float]:
    """Means over same tile in other channels, other tiles in the same channel, both other."""
    same, channel, other = _parts(cosines)
    return float(same.mean()), float(channel.mean()), float(other.mean())


def ordering(cosines: Array) -> float:
    """AUROC: how often same tile, other channel is nearer than other tile, same channel.

    This ordering, not a mean cosine, is invariance; 0.5 by chance, ties count half.
    """
    same, channel, _ = _parts(cosines)
    ranks = rankdata(np.concatenate([same, channel]))
    n, m = len(same), len(channel)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def retrieval(cosines: Array) -> float:
    """Share of tiles whose nearest tile in another channel is themselves; chance is 1 / n."""
    n_channels, _, n, _ = cosines.shape
    hits = [
        _first_best(cosines[i, j]) == np.arange(n)
        for i in range(n_channels)
        for j in range(n_channels)
        if i != j
    ]
    return float(np.mean(hits))


def dense_retrieval(patches: Array, grid: int) -> tuple[float, float]:
    """Share of patches whose nearest patch in another channel lies at most one patch away.

    Parameters
    ----------
    patches : (C, N, D) array
        Of one tile; N = grid * grid, row by row.

    Returns
    -------
    hits, chance : float
    """
    z = patches - patches.mean(axis=1, keepdims=True)
    z = z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
    places = np.stack(np.meshgrid(range(grid), range(grid), indexing="ij"), -1).reshape(-1, 2)
    near = np.abs(places[:, None] - places[None]).max(axis=-1) <= 1  # (N, N)
    rows = np.arange(len(places))
    hits = [
        near[rows, _first_best(z[i] @ z[j].T)].mean()
        for i in range(len(z))
        for j in range(len(z))
        if i != j
    ]
    return float(np.mean(hits)), float(near.mean())


def rank_correlations(maps: Array) -> Array:
    """Spearman correlations of all pairs of maps, as `similarities` of (n, C, N) maps."""
    ranks = rankdata(maps, axis=-1)
    return similarities(ranks - ranks.mean(axis=-1, keepdims=True))


def by_group(
    groups: Sequence[str], features: Sequence[Array], measure: Callable[[Array], float]
) -> list[float]:
    """Apply a measure to the stacked features (n, C, ...) of each group, in order of its name."""
    values = []
    for name in sorted(set(groups)):
        stack = np.stack([f for g, f in zip(groups, features, strict=True) if g == name])
        values.append(measure(stack))
    return values


def _parts(cosines: Array) -> tuple[Array, Array, Array]:
    n_channels, _, n, _ = cosines.shape
    off_channel = ~np.eye(n_channels, dtype=bool)
    off_tile = ~np.eye(n, dtype=bool)
    same = np.diagonal(cosines, axis1=2, axis2=3)[off_channel].ravel()
    channel = cosines[~off_channel][:, off_tile].ravel()
    other = cosines[off_channel][:, off_tile].ravel()
    return same, channel, other


def _first_best(scores: Array) -> NDArray[np.intp]:
    """Index of the best column of each row. Of columns that are equal to rounding, the first.

    Otherwise a network that answers everything alike would get a score out of rounding errors.
    """
    best: NDArray[np.intp] = np.argmax(np.round(scores, 6), axis=1)
    return best
