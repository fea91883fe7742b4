"""Adaptation of small networks that were really trained: what it must do, and what it must not."""

import time

import numpy as np
import pytest
import torch

from napari_dinocell.core.adapt import Example, Limits, Recipe, adapt
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.core.segmenter import Segmenter

from .specimens import BRIGHT, DIM, discs, lattice

WHOLE = IntensityRange(0.0, 1.0, False)
# Steps bound these trainings: a box in time would make them depend on the computer.
STEPS = Limits(feature_seconds=600, training_seconds=600, n_views=2)
RECIPE = Recipe(epochs=12, learning_rate=3e-3)


def scene(seed=0, size=160, dim=0.5):
    """Plane, labels, and which of the cells (by id - 1) the base overlooks."""
    rng = np.random.default_rng(seed)
    centers = lattice((size, size), 24, rng, 3)
    levels = rng.choice([BRIGHT, DIM], len(centers), p=[1 - dim, dim])
    plane, labels = discs((size, size), centers, 7, levels, seed)
    return plane, labels, levels == DIM


def only(labels, ids):
    return np.where(np.isin(labels, ids), labels, 0)


def found(model, plane, labels):
    """Whether each cell is found with IoU > 0.5 by the real path."""
    segmenter = model.segmenter("cpu") if hasattr(model, "segmenter") else Segmenter(*model, "cpu")
    predicted = segmenter.predict(plane, ranges=[WHOLE]).labels()
    table = overlap_table(labels, predicted)
    best = np.zeros(len(table.true_ids))
    np.maximum.at(best, table.rows, table.ious)
    return best > 0.5, predicted


def example(plane, labels, **known):
    return Example(plane, labels, intensity=WHOLE, **known)


def test_cells_like_the_annotated_ones_are_found_and_the_others_stay(base):
    plane, labels, dim = scene()
    ids = np.arange(1, len(dim) + 1)
    before, _ = found(base, plane, labels)
    assert not before[dim].any(), "the base must overlook what is to be learned"
    annotated = ids[dim][:8]
    adapted = adapt(base, [example(plane, only(labels, annotated))], recipe=RECIPE, limits=STEPS)
    assert adapted.report.verdict == "better", adapted.report.sentence()
    after, _ = found(adapted, plane, labels)
    rest = ~np.isin(ids, annotated)
    assert after[rest & ~dim].mean() >= before[rest & ~dim].mean(), "unlabeled cells faded"
    assert after[rest & dim].mean() > 0.5, "overlooked neighbors of the annotated cells stay so"
    other, others, dim = scene(seed=7)
    assert found(adapted, other, others)[0].mean() > found(base, other, others)[0].mean() + 0.2


def test_a_deleted_cell_does_not_come_back_and_the_others_stay(small_base):
    rng = np.random.default_rng(3)
    centers = lattice((160, 160), 24, rng, 3)
    levels = np.full(len(centers), BRIGHT)
    wrong = rng.choice(len(centers), 8, replace=False)
    levels[wrong] = 1.4  # debris is brighter than cells
    plane, labels = discs((160, 160), centers, 7, levels, 3)
    ids = np.arange(1, len(centers) + 1)
    before, _ = found(small_base, plane, labels)
    shown = [n for n in wrong if before[n]]
    assert len(shown) >= 5, "the base must take the wrong ones for cells"
    deleted = np.isin(labels, ids[shown[:4]])
    right = np.setdiff1d(ids - 1, wrong)
    annotated = ids[right[:6]]
    adapted = adapt(
        small_base,
        [example(plane, only(labels, annotated), background=deleted)],
        recipe=RECIPE,
        limits=STEPS,
    )
    assert adapted.report.verdict == "better", adapted.report.sentence()
    assert adapted.report.n_empty == 4
    after, predicted = found(adapted, plane, labels)
    assert not after[shown[:4]].any()
    assert not predicted[deleted].any()
    assert after[right].mean() >= before[right].mean()


def test_where_the_base_is_right_already_nothing_is_changed(small_base):
    plane, labels, _ = scene(seed=2, dim=0.0)
    _, predicted = found(small_base, plane, labels)
    annotated = only(predicted, np.unique(predicted)[1:9])
    adapted = adapt(small_base, [example(plane, annotated)], recipe=Recipe(epochs=4), limits=STEPS)
    assert adapted.report.verdict == "unchanged", adapted.report.sentence()
    assert adapted.thresholds == adapted.report.before
    before = small_base[0].decoder.state_dict()
    after = adapted.network.decoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_training_that_goes_wrong_is_not_kept(small_base):
    plane, labels, dim = scene()
    annotated = np.flatnonzero(~dim)[:8] + 1
    harmful = Recipe(epochs=2, learning_rate=1.0, seed=1)
    adapted = adapt(
        small_base, [example(plane, only(labels, annotated))], recipe=harmful, limits=STEPS
    )
    assert adapted.report.verdict in ("unchanged", "thresholds")
    assert "training" in adapted.report.sentence()
    before, _ = found(small_base, plane, labels)
    assert found(adapted, plane, labels)[0][~dim].mean() >= before[~dim].mean()


def test_with_fewer_than_three_cells_it_says_that_nothing_can_be_verified(small_base):
    plane, labels, dim = scene()
    annotated = np.flatnonzero(dim)[:2] + 1
    adapted = adapt(
        small_base,
        [example(plane, only(labels, annotated))],
        recipe=Recipe(epochs=5),
        limits=STEPS,
    )
    assert adapted.report.verdict == "unverified"
    assert "can't be verified" in adapted.report.sentence()
    assert adapted.report.scores is None
    assert adapted.report.final.steps[-1] == 5


@pytest.mark.parametrize("n_cells", [2, 6, 12])
def test_cancel_keeps_the_best_so_far(small_base, n_cells):
    plane, labels, dim = scene()
    annotated = np.flatnonzero(dim)[:n_cells] + 1
    steps = []

    def watch(now):
        if now.curve is not None and now.curve.steps[-1] > 0:
            steps.append(now.curve.steps[-1])

    adapted = adapt(
        small_base,
        [example(plane, only(labels, annotated))],
        recipe=Recipe(epochs=100, learning_rate=3e-3),
        limits=STEPS,
        progress=watch,
        cancel=lambda: bool(steps) and steps[-1] >= 15,
    )
    report = adapted.report
    assert report.is_cancelled
    curve = report.folds[0] if report.folds else report.final
    assert 15 <= curve.steps[-1] < 20 + 15
    if n_cells > 2:
        assert report.final is None
        assert report.scores.adapted.score >= report.scores.tuned.score
    assert report.verdict == ("unverified" if n_cells == 2 else "better")


def test_cancel_before_the_first_step_leaves_nothing(small_base):
    plane, labels, _ = scene()
    for after in (0, 1):
        calls = []
        with pytest.raises(Cancelled):
            adapt(
                small_base,
                [example(plane, only(labels, [1, 2]))],
                limits=Limits(n_views=1),
                cancel=lambda calls=calls, after=after: calls.append(1) or len(calls) > after,
            )


def test_a_short_time_box_gives_less_not_later(small_base):
    plane, labels, dim = scene()
    annotated = np.flatnonzero(dim)[:8] + 1
    limits = Limits(feature_seconds=0.01, training_seconds=0.2)
    begun = time.process_time()
    adapted = adapt(
        small_base,
        [example(plane, only(labels, annotated))],
        recipe=Recipe(epochs=10_000),
        limits=limits,
    )
    report = adapted.report
    assert time.process_time() - begun < 10
    assert report.n_windows == report.n_views == 1, "no second view for want of time"
    assert any("left out" in note for note in report.notes)
    assert report.folds[0].steps[-1] < 200


def test_the_cache_keeps_its_byte_bound(small_base):
    plane, labels, _ = scene(size=256)
    one = 128 * 128 * 2 * (8 + 8 / 4 + 12 / 16 + 12 / 64 + 16 / 256)
    adapted = adapt(
        small_base,
        [example(plane, labels)],
        recipe=Recipe(epochs=1),
        limits=Limits(cache_bytes=int(3.5 * one), n_views=8),
    )
    assert adapted.report.n_views == 3


def test_a_random_start_learns_from_nothing(small_base):
    plane, labels, dim = scene()
    annotated = np.flatnonzero(dim)[:8] + 1
    fresh = adapt(
        small_base,
        [example(plane, only(labels, annotated))],
        recipe=Recipe(start="random", epochs=6, learning_rate=3e-3),
        limits=STEPS,
    )
    warm = adapt(
        small_base,
        [example(plane, only(labels, annotated))],
        recipe=Recipe(epochs=1),
        limits=STEPS,
    )
    curves = [one.report.folds[0] for one in (fresh, warm)]
    assert curves[0].loss[0] != curves[1].loss[0]
    assert min(curves[0].held_out) < 0.8 * curves[0].held_out[0]


def test_the_base_and_its_encoder_stay_as_they_are(base):
    network, card = base
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plane, labels, dim = scene()
    annotated = np.flatnonzero(dim)[:4] + 1
    adapted = adapt(
        base,
        [example(plane, only(labels, annotated))],
        recipe=Recipe(epochs=8, learning_rate=3e-3),
        limits=STEPS,
    )
    assert adapted.report.verdict == "better", adapted.report.sentence()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in adapted.network.state_dict().items():
        if name.startswith("encoder.") or "running_" in name:
            assert torch.equal(value, before[name]), name
    assert card.peak == 0.55


def test_a_cell_that_no_window_holds_when_time_is_short_is_one_sentence(small_base):
    plane, labels = discs((520, 520), [(260, 260)], 220, [BRIGHT])
    with pytest.raises(ValueError, match="no time or memory for any annotation"):
        adapt(small_base, [example(plane, labels, scale=1.0)], limits=Limits(feature_seconds=1e-6))


def test_nothing_annotated_and_nothing_to_see_are_one_sentence(small_base):
    plane, labels, _ = scene()
    with pytest.raises(ValueError, match=r"Nothing is annotated; .*label at least one"):
        adapt(small_base, [example(plane, np.zeros_like(labels))])
    network, card = small_base
    floor = card.model_copy(update={"input": card.input.model_copy(update={"contrast_floor": 8.0})})
    with pytest.raises(ValueError, match="no contrast"):
        adapt((network, floor), [Example(np.ones_like(plane), labels)])
