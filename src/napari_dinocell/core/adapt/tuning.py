"""The thresholds that do best on annotated cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_dinocell.core.adapt.judged import Judged
from napari_dinocell.core.adapt.score import Tally, is_better
from napari_dinocell.core.prediction import Thresholds
from napari_dinocell.core.training.tuning import ThresholdGrid

_PEAK_RANGE, _FILL_RANGE = 0.1, 0.03


def tune(
    judged: Judged, start: Thresholds, *, lift: float, is_complete: bool
) -> tuple[Thresholds, Tally]:
    """Peak and fill with the best score; the nearest to `start` among those that are as good.

    As good is what the best is not better than by more than chance explains, see `is_better`: the
    one-standard-error rule of Breiman et al., Classification and Regression Trees (1984).

    Parameters
    ----------
    judged : Judged
    start : Thresholds
        The filters are kept.
    lift : float
        Of the target, see `ThresholdGrid`.
    is_complete : bool
        Whether there is a region in which every cell is labeled; only then may peak leave
        `start` by more than 0.1, and fill by more than 0.03.
    """
    grid = ThresholdGrid.for_lift(lift)
    pairs = [
        (start.peak + float(up), start.fill + float(out))
        for up in np.linspace(-_PEAK_RANGE, _PEAK_RANGE, 9)
        for out in np.linspace(-_FILL_RANGE, _FILL_RANGE, 7)
    ]
    if is_complete:
        pairs += [(peak, fill) for peak in grid.peak for fill in grid.fill]
    lowest = min(grid.fill)
    pairs = [(round(p, 4), round(f, 4)) for p, f in pairs if lowest <= f < p < 0.99]
    pairs = [(start.peak, start.fill), *dict.fromkeys(pairs)]
    tallies = [judged.tally(replace(start, peak=peak, fill=fill)) for peak, fill in pairs]
    top = max(tallies, key=lambda one: one.score)
    away = np.hypot(*((np.array(pairs) - pairs[0]) / (_PEAK_RANGE, _FILL_RANGE)).T)
    away[[is_better(top, one) for one in tallies]] = np.inf
    best = int(np.argmin(away))
    peak, fill = pairs[best]
    return replace(start, peak=peak, fill=fill), tallies[best]
