"""What is said about the cells that nobody annotated."""

import numpy as np
import pytest

from napari_dinocell.core.adapt import Example, Limits, Recipe, adapt
from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.examples import annotate
from napari_dinocell.core.adapt.features import cache_features, read_windows
from napari_dinocell.core.adapt.survey import Elsewhere, survey
from napari_dinocell.core.adapt.windows import units_of
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.prediction import Thresholds
from napari_dinocell.core.segmenter import Segmenter

from .specimens import BRIGHT, DIM, discs, lattice

WHOLE = IntensityRange(0.0, 1.0, False)
AT = Thresholds(0.55, 0.2, 0, 0.0)
SIZE = (300, 420)


@pytest.fixture(scope="module")
def scene():
    """Plane, labels, and which of the cells the base overlooks: two of three."""
    rng = np.random.default_rng(0)
    centers = lattice(SIZE, 24, rng, 3)
    levels = rng.choice([BRIGHT, DIM, DIM], len(centers))
    plane, labels = discs(SIZE, centers, 7, levels)
    return plane, labels, np.flatnonzero(levels == DIM) + 1


@pytest.mark.parametrize(
    ("base", "result", "is_notable"),
    [
        (140, 212, True),
        (212, 140, True),
        (140, 209, False),
        (151, 117, True),
        (151, 125, False),
        (0, 10, True),
        (0, 9, False),
        (12, 19, False),
        (200, 200, False),
        (0, 0, False),
    ],
)
def test_counts_are_worth_a_sentence_where_they_rise_by_half_or_fall_by_a_fifth_and_by_ten_cells(
    base, result, is_notable
):
    assert Elsewhere(base, result, 1.0, 1).is_notable == is_notable


def test_the_sentence_tells_both_counts_and_where_they_are_from():
    assert Elsewhere(140, 212, 1.0, 1).sentence() == (
        "In the rest of the image the new model finds 212 cells, the base found 140; look at a few "
        "of them."
    )
    fewer = Elsewhere(212, 140, 0.4, 3).sentence()
    assert fewer.startswith("In 40 % of the rest of the images ")
    assert fewer.endswith("look for missing ones.")


def test_an_adapted_model_that_finds_twice_as_many_cells_elsewhere_says_so(small_base, scene):
    plane, labels, dim = scene
    annotated = np.where(np.isin(labels, dim[:10]), labels, 0)
    adapted = adapt(
        small_base,
        [Example(plane, annotated, intensity=WHOLE)],
        recipe=Recipe(epochs=12, learning_rate=3e-3),
        limits=Limits(feature_seconds=600, training_seconds=600, n_views=2),
        device="cpu",
    )
    report = adapted.report
    assert report.verdict == "better", report.sentence()
    found = report.elsewhere
    assert found.is_notable
    assert found.sentence() in report.notes
    assert report.to_json()["elsewhere"]["result"] == found.result
    if found.share < 1:  # a slow computer
        return
    for model, counted in (
        (Segmenter(*small_base, "cpu"), found.base),
        (adapted.segmenter("cpu"), found.result),
    ):
        predicted = model.predict(plane, ranges=[WHOLE]).labels()
        ids, judged = np.unique(predicted), np.unique(predicted[annotated > 0])
        assert counted == pytest.approx(len(np.setdiff1d(ids, judged)), rel=0.1, abs=3)


def test_without_time_a_part_is_looked_at_and_a_whole_annotated_image_has_no_rest(
    small_base, scene
):
    network, card = small_base
    plane, labels, _ = scene

    def counted(example, seconds):
        annotations = [annotate(example, card)]
        units = units_of(annotations)
        windows = read_windows(annotations, units, card)[:1]
        windows = cache_features(network, windows, AT, card, seconds=9, max_bytes=1 << 30)
        evidence = Evidence.of(annotations, windows, units)
        return survey((network, network), (AT, AT), evidence, card, seconds=seconds)

    some = Example(plane, np.where(labels == 1, 1, 0), intensity=WHOLE)
    hasty, thorough = counted(some, 1e-9), counted(some, 100)
    assert hasty.share == pytest.approx(112 * 112 / (SIZE[0] * SIZE[1]), rel=0.02)
    assert thorough.share == 1
    assert hasty.base == hasty.result < thorough.base == thorough.result
    everything = Example(plane, labels, complete_regions=np.ones(SIZE, bool), intensity=WHOLE)
    assert counted(everything, 100) == Elsewhere(0, 0, 1.0, 1)
