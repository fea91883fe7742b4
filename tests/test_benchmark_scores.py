"""The two commands under `benchmarks/` that print scores, on small generated data."""

import csv
import json
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_dinocell.core.metrics import score_image
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import save_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.small import (
    SmallDecoder,
    SmallDecoderConfig,
    SmallEncoder,
    SmallEncoderConfig,
)
from napari_dinocell.core.training.readers import read_index

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import classical
import evaluate_models


def touching_discs() -> np.ndarray:
    """Two discs of radius 10 that touch in a short border, and one apart."""
    y, x = np.indices((50, 90))
    labels = np.zeros((50, 90), np.int32)
    for number, (cy, cx) in enumerate(((20, 20), (20, 39), (33, 70)), start=1):
        labels[((y - cy) ** 2 + (x - cx) ** 2 <= 100) & (labels == 0)] = number
    return labels


def noisy(labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (60 + 120 * (labels > 0) + rng.normal(0, 6, labels.shape)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["bright", "dark", "color", "uint16"])
def test_touching_discs_are_split_whatever_the_polarity_and_type(kind):
    labels = touching_discs()
    plane = noisy(labels)
    if kind == "dark":
        plane = 255 - plane
    if kind == "color":
        plane = np.stack([255 - plane] * 2 + [plane], axis=-1)
    if kind == "uint16":
        plane = plane.astype(np.uint16) * 200
    found = classical.segment(plane, classical.Parameters(1.0, 8, 20))
    score = score_image(labels, found)
    assert (score.n_pred, score.tp75) == (3, 3)


def test_a_constant_image_has_no_cells():
    assert not classical.segment(np.full((9, 9), 7, np.uint8), classical.Parameters()).any()


def test_cells_below_the_area_are_dropped_and_others_kept():
    labels = np.array([[1, 0, 2, 2], [0, 0, 2, 3], [5, 5, 0, 3]])
    assert sorted(np.unique(classical.drop_small(labels, 2))) == [0, 2, 3, 5]
    assert sorted(np.unique(classical.drop_small(labels, 3))) == [0, 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with one image per split, and test images of a set without val images."""
    folder = tmp_path_factory.mktemp("data")
    labels = touching_discs()
    rows = []
    for name, split in (("discs", "val"), ("discs", "test"), ("others", "test")):
        paths = f"{name}_{split}.png", f"{name}_{split}_labels.png"
        iio.imwrite(folder / paths[0], noisy(labels))
        iio.imwrite(folder / paths[1], labels.astype(np.uint16))
        rows.append([name, split, *paths, f"{name}{split}"])
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["set", "split", "image", "label", "group"], *rows])
    return folder


def test_baseline_is_tuned_on_validation_and_falls_back_for_other_sets(data):
    tuned = classical.tune(read_index(data, "val"))
    assert list(tuned) == ["discs"]
    result = classical.evaluate(read_index(data, "test"), tuned, fallback="discs")
    assert {name: r.score.ap50 for name, r in result.sets.items()} == {"discs": 1.0, "others": 1.0}


def test_every_model_and_the_baseline_stand_in_one_table(data, tmp_path, capsys):
    encoder = SmallEncoder(SmallEncoderConfig(widths=(4,) * 5, blocks=(0,) * 5))
    decoder = SmallDecoder(SmallDecoderConfig(inputs=(4,) * 5, widths=(4,) * 4))
    network = DINOCell(encoder, decoder)
    model = str(tmp_path / "tiny.safetensors")
    save_model(
        model,
        network,
        ModelCard(name="tiny", architecture=network.architecture, peak=0.6, fill=0.2, diameter=20),
    )
    baseline = tmp_path / "classical.json"
    assert classical.main([str(data), "--split", "val", "--json"]) == 0
    baseline.write_text(capsys.readouterr().out)
    arguments = [str(data), "--models", model, "--device", "cpu", "--classical", str(baseline)]
    assert evaluate_models.main([*arguments, "--diameter", "given", "none", "--json"]) == 0
    out, table = capsys.readouterr()
    rows = json.loads(out)
    assert [(row["method"], row["diameter"]) for row in rows] == [
        ("Otsu + watershed", "none"),
        (model, "given"),
        (model, "none"),
    ]
    assert rows[0]["ap50"] == 1.0
    assert all(row["set"] == "discs" for row in rows)
    for word in ("Otsu", "AP50", "OP_CSB", "1.000"):
        assert word in table
