"""Difference of two methods on the same images, with its bootstrap interval over images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_dinocell.core.metrics import ImageScore, pool


@dataclass(frozen=True)
class Difference:
    """First method's pooled score minus the second's, and its interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def paired_difference(
    first: Sequence[ImageScore],
    second: Sequence[ImageScore],
    score: str,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Difference of a pooled score; both methods are scored on the same drawn images.

    Parameters
    ----------
    first, second : sequence of ImageScore
        One per image, in the same order.
    score : str
        A field of `SetScore`, such as "ap50".
    n_resamples : int
        Sets of images drawn with replacement.
    level : float
        Coverage of the interval.
    seed : int
        Same seed, same interval.
    """
    if len(first) != len(second) or [s.n_true for s in first] != [s.n_true for s in second]:
        raise ValueError(
            f"{len(first)} and {len(second)} images, or other cells in them, were given; a paired "
            "difference needs scores of the same images in the same order."
        )

    def difference(chosen: Sequence[int]) -> float:
        one, other = ([scores[i] for i in chosen] for scores in (first, second))
        return float(getattr(pool(one), score) - getattr(pool(other), score))

    n = len(first)
    rng = np.random.default_rng(seed)
    if n < 2:
        return Difference(difference(range(n)), np.nan, np.nan)
    drawn = [difference(rng.integers(n, size=n)) for _ in range(n_resamples)]
    low, high = np.nanquantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Difference(difference(range(n)), float(low), float(high))
