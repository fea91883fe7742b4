"""Which channels the crops of one sample show: the experiment's one switch.

`MeanVsSingle` is the proposal: average and single channel must agree. `Separate` and `MeanOnly` are
its controls, in which nothing asks for agreement across channels.
"""

from typing import Protocol

import numpy as np

from .channels import FieldViews, Rendering


class Strategy(Protocol):
    """Assigns a rendering to each crop of a sample."""

    n_global: int

    def renderings(
        self, rng: np.random.Generator, views: FieldViews, n_local: int
    ) -> list[Rendering]:
        """Renderings of the global crops, then of `n_local` local crops."""


class MeanVsSingle:
    """One global crop shows the average, the other a random channel; local crops either, evenly."""

    n_global = 2

    def renderings(
        self, rng: np.random.Generator, views: FieldViews, n_local: int
    ) -> list[Rendering]:
        """Renderings of the two global crops in random order, then of the local ones."""
        # In random order, because the two global crops have different photometry.
        pair = [views.mean, views.single(rng)]
        crops = [pair[i] for i in rng.permutation(2)]
        for _ in range(n_local):
            crops.append(views.mean if rng.random() < 0.5 else views.single(rng))
        return crops


class RandomSingleEach:
    """Each crop shows a random channel, the two global ones different channels."""

    n_global = 2

    def renderings(
        self, rng: np.random.Generator, views: FieldViews, n_local: int
    ) -> list[Rendering]:
        """Renderings of the two global crops, then of the local ones."""
        return views.singles(rng, 2) + [views.single(rng) for _ in range(n_local)]


class Separate:
    """All crops show the same random channel: no loss compares two channels (control)."""

    n_global = 2

    def renderings(
        self, rng: np.random.Generator, views: FieldViews, n_local: int
    ) -> list[Rendering]:
        """One rendering for all crops."""
        return [views.single(rng)] * (2 + n_local)


class MeanOnly:
    """All crops show the average: the network never sees a single channel (control)."""

    n_global = 2

    def renderings(
        self, rng: np.random.Generator, views: FieldViews, n_local: int
    ) -> list[Rendering]:
        """The average for all crops."""
        return [views.mean] * (2 + n_local)


class Pairwise:
    """One global crop for each of several channels, all compared with all; a dearer teacher.

    With fewer channels than crops, channels repeat; with more, a random choice of them is shown.
    """

    def __init__(self, n_global: int = 5) -> None:
        if n_global < 2:
            raise ValueError(f"Pairwise got {n_global} global crops; a pair needs at least 2.")
        self.n_global = n_global

    def renderings(
        self, rng: np.random.Generator, views: FieldViews, n_local: int
    ) -> list[Rendering]:
        """Renderings of the global crops, then of the local ones."""
        return views.singles(rng, self.n_global) + [views.single(rng) for _ in range(n_local)]


STRATEGIES: dict[str, type[Strategy]] = {
    "mean_vs_single": MeanVsSingle,
    "random_single_each": RandomSingleEach,
    "separate": Separate,
    "mean_only": MeanOnly,
    "pairwise": Pairwise,
}


def make_strategy(name: str) -> Strategy:
    """Strategy by its name in `STRATEGIES`.

    Raises
    ------
    ValueError
        If there is no such strategy.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"View strategy '{name}' is unknown; choose one of {', '.join(STRATEGIES)}."
        )
    return STRATEGIES[name]()
