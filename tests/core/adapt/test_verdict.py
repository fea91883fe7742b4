"""What an adaptation keeps, by the scores on held-out cells."""

import pytest

from napari_dinocell.core.adapt.report import Scores, verdict_of
from napari_dinocell.core.adapt.score import Tally


def cells(*ious, n_false=0):
    return Tally(ious, (0,) * len(ious), n_false)


BASE = cells(0.5, 0.6, 0.7)
HIGHER = cells(0.6, 0.7, 0.8)


@pytest.mark.parametrize(
    ("tuned", "adapted", "verdict"),
    [
        (HIGHER, cells(0.65, 0.75, 0.84), "better"),
        (HIGHER, cells(0.602, 0.702, 0.802), "thresholds"),
        (HIGHER, BASE, "thresholds"),
        (BASE, HIGHER, "better"),
        (BASE, cells(0.9, 0.6, 0.7), "unchanged"),
        (BASE, BASE, "unchanged"),
        (cells(0.6, 0.6, 0.8), cells(0.7, 0.7, 0.8), "better"),
    ],
)
def test_the_best_is_kept_of_what_beats_the_base_by_more_than_chance(tuned, adapted, verdict):
    assert verdict_of(Scores(BASE, tuned, adapted)) == verdict


def test_a_false_cell_less_is_reason_enough():
    better, worse = cells(0.6, 0.6, 0.6), cells(0.6, 0.6, 0.6, n_false=1)
    assert verdict_of(Scores(worse, worse, better)) == "better"


def test_without_held_out_cells_nobody_knows():
    assert verdict_of(None) == "unverified"
