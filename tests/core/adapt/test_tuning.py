"""Maps beside partial annotation: what they score, and at which thresholds they score best."""

from dataclasses import asdict

import numpy as np
import pytest
from scipy import ndimage

from napari_dinocell.core.adapt.judged import Judged, View
from napari_dinocell.core.adapt.score import Tally
from napari_dinocell.core.adapt.tuning import tune
from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.instances import flood, quantize
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


def view(map_, cells, background=None):
    none = np.zeros(cells.shape, bool)
    return View(quantize(map_), cells, none if background is None else background)


def judged(predicted, cells, background=None):
    return Judged.of([view(distance_map(predicted, LIFT), cells, background)])


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


def test_tallies_of_several_maps_add_up(cells):
    one, other = (view(distance_map(found, LIFT), cells) for found in (cells, cells * 0))
    assert Judged.of([one, other]).tally(AT) == Tally((1.0, 1.0, 0.0, 0.0), (0, 0, 0, 0))
    assert Judged.of([]).tally(AT) == Tally()


def counted(view, at):
    """The tally of one map, from the labels that its cut gives, pixel by pixel."""
    cut = flood(view.map).cut(**asdict(at))
    ious, extras = [], []
    for cell in np.setdiff1d(view.cells, [0]):
        mask, found = view.cells == cell, []
        for id_ in np.setdiff1d(cut.labels[mask], [0]):
            own = cut.labels == id_
            found.append((mask & own).sum() / (mask | own).sum())
        ious.append(max(found, default=0.0))
        extras.append(max(sum(view.cells[peak(view, cut, id_)] == cell for id_ in cut.ids) - 1, 0))
    n_false = sum(bool(view.background[peak(view, cut, id_)]) for id_ in cut.ids)
    return Tally(tuple(ious), tuple(extras), n_false)


def peak(view, cut, id_):
    return np.unravel_index(np.argmax(np.where(cut.labels == id_, view.map, 0)), view.map.shape)


@pytest.mark.parametrize(
    "at",
    [
        Thresholds(0.3, 0.1, 0, 0.0),
        Thresholds(0.7, 0.1, 0, 0.0),
        Thresholds(0.7, 0.55, 12, 0.0),
        Thresholds(0.6, 0.45, 5, 0.15),
        Thresholds(0.98, 0.9, 0, 0.0),
    ],
)
def test_several_maps_together_score_what_each_cut_of_its_own_gives(at):
    rng = np.random.default_rng(0)
    views = []
    for shape in ((40, 56), (64, 40), (16, 16)):
        map_ = ndimage.gaussian_filter(rng.random(shape), 1.2)
        map_ = (map_ - map_.min()) / np.ptp(map_)
        annotated = np.zeros(shape, np.int32)
        for number, center in enumerate(rng.uniform(0, shape, (9, 2))):
            annotated[disc(center, 6, shape)] = 3 * number + 2
        views.append(view(map_, annotated, rng.random(shape) < 0.3))
    together = Judged.of(views).tally(at)
    wanted = sum((counted(one, at) for one in views), Tally())
    assert together.ious == pytest.approx(wanted.ious)
    assert (together.extras, together.n_false) == (wanted.extras, wanted.n_false)
    if 0.5 < at.peak < 0.9:
        assert together.n_false > 0, "the maps must have something to count"
        assert sum(together.extras) > 0


def test_thresholds_are_found_within_reach_and_beyond_only_with_a_complete_region(cells):
    # A map that is too low for the base's peak, and one whose rim is far below its fill.
    low = Judged.of([view(0.88 * distance_map(cells, 0.0), cells)])
    start = Thresholds(0.95, 0.3, 0, 0.0)
    near, before = tune(low, start, lift=0.0, is_complete=False)
    assert abs(near.peak - start.peak) <= 0.1 + 1e-9
    assert abs(near.fill - start.fill) <= 0.03 + 1e-9
    assert near.peak < 0.88
    far, after = tune(low, start, lift=0.0, is_complete=True)
    assert far.fill < start.fill - 0.03
    assert after.score > before.score


def test_thresholds_stay_where_nothing_is_gained(cells):
    start = Thresholds(0.57, 0.19, 7, 0.04)
    found, best = tune(judged(cells, cells), start, lift=LIFT, is_complete=True)
    assert found == start
    assert best.score == 1


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
        return tune(Judged.of([view(map_, cells)]), start, lift=LIFT, is_complete=True)[0]

    start = Thresholds(0.55, 0.15, 0, 0.0)
    assert tuned({1, 2, 3}).fill > 0.16
    assert tuned({1}) == start
