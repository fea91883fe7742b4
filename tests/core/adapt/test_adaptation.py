"""Adaptation of small networks that were really trained: what it must do, and what it must not."""

import numpy as np

from napari_dinocell.core.adapt import Example, Limits, Recipe, adapt
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.core.segmenter import Segmenter

from .specimens import BRIGHT, DIM, discs, lattice

WHOLE = IntensityRange(0.0, 1.0, False)
FAST = Limits(feature_seconds=20, training_seconds=20, n_views=2)
RECIPE = Recipe(epochs=30, learning_rate=3e-3)


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
    adapted = adapt(base, [example(plane, only(labels, annotated))], recipe=RECIPE, limits=FAST)
    assert adapted.report.verdict == "better", adapted.report.sentence()
    after, _ = found(adapted, plane, labels)
    rest = ~np.isin(ids, annotated)
    assert after[rest & ~dim].mean() >= before[rest & ~dim].mean(), "unlabeled cells faded"
    assert after[rest & dim].mean() > 0.5, "overlooked neighbors of the annotated cells stay so"
    other, others, dim = scene(seed=7)
    assert found(adapted, other, others)[0].mean() > found(base, other, others)[0].mean() + 0.2
