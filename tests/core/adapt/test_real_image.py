"""The bundled model on a real validation image of which at most a tenth of the cells are annotated."""

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


def crowded_image():
    """Plane and labels of the first small validation image with at least 20 nuclei."""
    folder = Path(os.environ["DINOCELL_DATA"])
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        row = next(
            row
            for row in csv.DictReader(file)
            if (row["set"], row["split"], row["width"]) == ("dsb2018_fluo", "val", "256")
            and int(row["n_instances"]) >= 20
        )
    plane, labels = (np.asarray(imageio.imread(folder / row[kind])) for kind in ("image", "label"))
    return plane, labels.astype(np.int32)


def test_unlabeled_cells_of_a_real_image_are_not_suppressed():
    plane, labels = crowded_image()
    ids = np.unique(labels)[1:]
    # Too few to be verified, so that what was trained is what is returned.
    annotated = np.random.default_rng(0).choice(ids, 2, replace=False)
    others = np.setdiff1d(ids, annotated)
    before = Segmenter.from_pretrained("vits8", "cpu").predict(plane)
    example = Example(
        Image(plane, "YX"),
        np.where(np.isin(labels, annotated), labels, 0),
        intensity=before.ranges[0],
        scale=before.scale,
    )
    adapted = adapt(
        "vits8",
        [example],
        recipe=Recipe(epochs=8),
        limits=Limits(feature_seconds=600, training_seconds=600, n_views=1),
        device="cpu",
    )
    assert adapted.report.verdict == "unverified"
    assert adapted.report.final.steps[-1] > 0
    after = adapted.segmenter("cpu").predict(plane)
    assert recall(labels, after.labels(), others) >= recall(labels, before.labels(), others)
