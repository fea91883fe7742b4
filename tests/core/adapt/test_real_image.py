"""The bundled models on real validation images of which few cells are annotated."""

import csv
import os
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from napari_dinocell.core.adapt import Example, Limits, Recipe, adapt
from napari_dinocell.core.images import Image
from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.core.segmenter import Segmenter

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(
        "DINOCELL_DATA" not in os.environ, reason="DINOCELL_DATA names no data folder"
    ),
]


def recall(labels, predicted, ids):
    table = overlap_table(labels, predicted)
    best = np.zeros(len(table.true_ids))
    np.maximum.at(best, table.rows, table.ious)
    return (best > 0.5)[np.isin(table.true_ids, ids)].mean()


def crowded_image(name, width, least=20):
    """Plane and labels of the first validation image of a set and width with enough cells."""
    folder = Path(os.environ["DINOCELL_DATA"])
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        row = next(
            row
            for row in csv.DictReader(file)
            if (row["set"], row["split"], row["width"]) == (name, "val", width)
            and int(row["n_instances"]) >= least
        )
    plane, labels = (np.asarray(imageio.imread(folder / row[kind])) for kind in ("image", "label"))
    return plane, labels.astype(np.int32)


@pytest.mark.parametrize("model", ["small", "vits8"])
def test_unlabeled_cells_of_a_real_image_are_not_suppressed(model):
    plane, labels = crowded_image("dsb2018_fluo", "256")
    ids = np.unique(labels)[1:]
    # Too few to be verified, so that what was trained is what is returned.
    annotated = np.random.default_rng(0).choice(ids, 2, replace=False)
    others = np.setdiff1d(ids, annotated)
    before = Segmenter.from_pretrained(model, "cpu").predict(plane)
    example = Example(
        Image(plane, "YX"),
        np.where(np.isin(labels, annotated), labels, 0),
        intensity=before.ranges[0],
        scale=before.scale,
    )
    adapted = adapt(
        model,
        [example],
        recipe=Recipe(epochs=8),
        limits=Limits(feature_seconds=600, training_seconds=600, n_views=1),
        device="cpu",
    )
    assert adapted.report.verdict == "unverified"
    assert adapted.report.final.steps[-1] > 0
    after = adapted.segmenter("cpu").predict(plane)
    assert recall(labels, after.labels(), others) >= recall(labels, before.labels(), others)


def test_what_was_deleted_in_a_real_image_does_not_come_back():
    plane, labels = crowded_image("dsb2018_stained", "320", least=150)
    image = Image(plane, "YXS")
    before = Segmenter.from_pretrained("small", "cpu").predict(image)
    predicted = before.labels()
    cells = np.unique(predicted[predicted > 0])
    covered = np.array([(labels[predicted == cell] > 0).mean() for cell in cells])
    spurious = cells[covered < 0.1]
    assert len(spurious) >= 3, "there must be something to delete"
    deleted = np.isin(predicted, spurious[:3])
    example = Example(
        image,
        np.where(labels <= 2, labels, 0),  # too few to be verified, see above
        background=deleted & (labels == 0),
        intensity=before.ranges[0],
        scale=before.scale,
    )
    adapted = adapt(
        "small",
        [example],
        recipe=Recipe(epochs=20),
        limits=Limits(feature_seconds=600, training_seconds=600, n_views=1),
        device="cpu",
    )
    assert adapted.report.verdict == "unverified"
    after = adapted.segmenter("cpu").predict(image, diameter=before.scaling.diameter).labels()
    for cell in spurious[:3]:
        assert (after[predicted == cell] > 0).mean() < 0.2
