import numpy as np
import pytest

from napari_dinocell.core.adapt.score import Judged, Tally, is_better, tally, tune
from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.instances import flood
from napari_dinocell.core.prediction import Thresholds

LIFT = 0.2
AT = Thresholds(0.55, 0.2, 0, 0.0)


def disc(center, radius, shape=(96, 96)):
    y, x = np.indices(shape)
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


@pytest.fixture
def cells():
    labels = np.zeros((96, 96), np.int32)
    labels[disc((24, 24), 12)] = 1
    labels[disc((24, 70), 12)] = 2
    return labels


def judged(predicted, cells, background=None):
    none = np.zeros(cells.shape, bool)
    tree = flood(distance_map(predicted, LIFT))
    return Judged.of(tree, cells, none if background is None else background)


def test_a_perfect_map_scores_one(cells):
    assert judged(cells, cells).tally(AT) == Tally((1.0, 1.0), (0, 0))
    assert judged(cells, cells).tally(AT).score == 1


def test_cells_that_are_not_annotated_cost_nothing(cells):
    more = cells.copy()
    more[disc((75, 48), 10)] = 3
    assert judged(more, cells).tally(AT).score == 1


def test_a_split_cell_a_missed_one_and_a_false_marker_cost_what_they_should(cells):
    halves = cells.copy()
    halves[(cells == 1) & (np.indices(cells.shape)[1] < 24)] = 5
    found = judged(halves, cells).tally(AT)
    assert found.extras == (1, 0)
    iou = (cells == 1)[:, 24:].sum() / (cells == 1).sum()
    assert found.score == pytest.approx((iou + 1 - 0.25) / 2, abs=0.01)
    missed = np.where(cells == 1, 1, 0)
    assert judged(missed, cells).tally(AT).score == 0.5
    false = cells.copy()
    false[disc((75, 48), 10)] = 3
    found = judged(false, cells, disc((75, 48), 14)).tally(AT)
    assert (found.n_false, found.score) == (1, 0.75)


def test_tallies_add_up(cells):
    one, other = judged(cells, cells), judged(cells * 0, cells)
    assert tally([one, other], AT) == Tally((1.0, 1.0, 0.0, 0.0), (0, 0, 0, 0))
    assert tally([], AT) == Tally()


def test_thresholds_are_found_within_reach_and_beyond_only_with_a_complete_region(cells):
    # A map that is too low for the base's peak, and one whose rim is far below its fill.
    low = Judged.of(flood(0.88 * distance_map(cells, 0.0)), cells, np.zeros(cells.shape, bool))
    start = Thresholds(0.95, 0.3, 0, 0.0)
    near, before = tune([low], start, lift=0.0, is_complete=False)
    assert abs(near.peak - start.peak) <= 0.1 + 1e-9
    assert abs(near.fill - start.fill) <= 0.03 + 1e-9
    assert near.peak < 0.88
    far, after = tune([low], start, lift=0.0, is_complete=True)
    assert far.fill < start.fill - 0.03
    assert after.score > before.score


def test_thresholds_stay_where_nothing_is_gained(cells):
    start = Thresholds(0.57, 0.19, 7, 0.04)
    found, best = tune([judged(cells, cells)], start, lift=LIFT, is_complete=True)
    assert found == start
    assert best.score == 1


def test_a_rise_that_one_cell_makes_alone_is_chance_and_one_of_all_cells_is_not():
    base = Tally((0.6, 0.7, 0.8), (0, 0, 0))
    assert is_better(Tally((0.65, 0.74, 0.86), (0, 0, 0)), base)
    # Means rise by the same 0.05; the differences are 0.3, -0.1, -0.05: standard error 0.126.
    assert not is_better(Tally((0.9, 0.6, 0.75), (0, 0, 0)), base)
    assert not is_better(Tally((0.604, 0.704, 0.804), (0, 0, 0)), base)


def test_a_false_marker_less_is_better():
    assert is_better(Tally((0.8, 0.8), (0, 0)), Tally((0.8, 0.8), (0, 0), n_false=1))


def test_thresholds_are_not_moved_for_the_sake_of_a_single_cell(cells):
    cells[disc((72, 48), 12)] = 3
    rims = {id_: disc(center, 12) for id_, center in ((1, (24, 24)), (2, (24, 70)), (3, (72, 48)))}

    def tuned(raised):
        # A skirt around some cells that only a fill above 0.16 cuts off.
        skirts = np.zeros(cells.shape, bool)
        for id_ in raised:
            center = np.argwhere(rims[id_]).mean(axis=0)
            skirts |= disc(center, 16) & (cells == 0)
        map_ = np.where(skirts, np.float32(0.16), distance_map(cells, LIFT))
        none = np.zeros(cells.shape, bool)
        return tune([Judged.of(flood(map_), cells, none)], start, lift=LIFT, is_complete=True)[0]

    start = Thresholds(0.55, 0.15, 0, 0.0)
    assert tuned({1, 2, 3}).fill > 0.16
    assert tuned({1}) == start
