import csv
import json
import math

import numpy as np
import pytest
import torch
from imageio.v3 import imread, imwrite
from torch import Tensor, nn

from napari_dinocell.core.confidence import TERMS
from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.evaluate import main
from napari_dinocell.core.model.card import ModelCard, TargetCard
from napari_dinocell.core.model.files import save_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.small import (
    SmallDecoder,
    SmallDecoderConfig,
    SmallEncoder,
    SmallEncoderConfig,
)
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.tuning import ThresholdGrid, Thresholds, tune_thresholds
from napari_dinocell.core.training.validation import (
    evaluate,
    evaluate_model,
    load_split,
    parse_diameter,
    predict_maps,
)

WIDTHS = (4, 4, 4, 4, 4)


class Brightness(nn.Module):
    """A network that takes the image for the map."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1].clamp(0, 1)


def tiny_network() -> DINOCell:
    torch.manual_seed(0)
    encoder = SmallEncoder(SmallEncoderConfig(widths=WIDTHS, blocks=(0, 0, 0, 0, 0)))
    return DINOCell(encoder, SmallDecoder(SmallDecoderConfig(inputs=WIDTHS, widths=WIDTHS[:4])))


def card(**changes) -> ModelCard:
    settings = {
        "name": "stub",
        "architecture": tiny_network().architecture,
        "target": TargetCard(kind="edt", lift=0.0),
        "peak": 0.5,
        "fill": 0.05,
        "diameter": 18.0,
    }
    return ModelCard(**(settings | changes))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(Brightness(), card(), "cpu")


def picture_of_the_map(labels: np.ndarray) -> np.ndarray:
    return (distance_map(labels) * 255).astype(np.uint8)


def items_of_maps(specimen, n=3, radius=9, set_name="discs", shape=(160, 200)):
    items = []
    for seed in range(n):
        _, labels = specimen.discs(shape, radius, 40, seed=seed)
        stem = f"{set_name}{seed}"
        items.append(specimen.item(stem, picture_of_the_map(labels), labels, set_name))
    return items


def test_a_network_that_shows_the_map_finds_every_cell(specimen, segmenter):
    dataset = LabeledDataset(items_of_maps(specimen))
    done = []
    cases = predict_maps(segmenter, dataset, diameter=None, progress=lambda *n: done.append(n))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert [case.name for case in cases] == ["discs0", "discs1", "discs2"]
    assert all(case.tree.shape == case.truth.shape == (160, 200) for case in cases)
    result = evaluate(cases, Thresholds(0.5, 0.05))
    score = result.scores.pooled.score
    assert (score.ap50, score.n_true) == (1.0, sum(item.n_instances for item in dataset))
    assert 0 < result.scores.pooled.seconds_per_image < 60


def test_the_given_diameter_is_the_median_of_the_images_own_labels(specimen, segmenter):
    dataset = LabeledDataset(items_of_maps(specimen, n=1, radius=14))
    (item,) = dataset
    given, told, nothing = (
        predict_maps(segmenter, dataset, diameter=diameter)[0].tree.quantized
        for diameter in ("given", item.diameter, None)
    )
    assert np.array_equal(given, told)
    assert not np.array_equal(given, nothing)  # the card's diameter is 18


def test_images_without_cells_are_predicted_as_if_nothing_was_given(specimen, segmenter):
    rng = np.random.default_rng(0)
    plane = (rng.random((64, 64)) * 255).astype(np.uint8)
    item = specimen.item("empty", plane, np.zeros((64, 64), np.int32))
    assert math.isnan(item.diameter)
    given, nothing = (
        predict_maps(segmenter, LabeledDataset([item]), diameter=diameter)[0].tree.quantized
        for diameter in ("given", None)
    )
    assert np.array_equal(given, nothing)


def test_color_images_are_scored_too(specimen, segmenter):
    _, labels = specimen.discs((96, 96), 9, 10)
    gray = picture_of_the_map(labels)
    plane = np.stack([gray, gray // 2, gray], axis=-1)
    (case,) = predict_maps(segmenter, LabeledDataset([specimen.item("rgb", plane, labels)]))
    assert case.score(Thresholds(0.5, 0.05)).tp50 == labels.max()


def test_scores_come_per_set_with_a_confidence_that_tells_hits_from_misses(specimen, segmenter):
    items = items_of_maps(specimen, 6, 9, "clean")
    for item in items_of_maps(specimen, 6, 9, "ghosts"):
        # Dim copies of the cells that nobody labeled: misses of half the height.
        plane = imread(item.image)
        ghosts = plane[::-1, ::-1] // 2 * (plane == 0)
        imwrite(item.image, plane + ghosts)
        items.append(item)
    cases = predict_maps(segmenter, LabeledDataset(items), diameter=None)
    result = evaluate(cases, Thresholds(0.4, 0.05))
    assert list(result.scores.sets) == ["clean", "ghosts"]
    assert result.scores.sets["ghosts"].score.n_spurious > 10
    assert result.confidence is not None
    assert set(result.confidence.coefficients) == set(TERMS)
    assert result.auroc > 0.95
    tree = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert tree["thresholds"]["peak"] == 0.4
    assert tree["confidence_auroc"] == result.auroc
    assert "AUROC" in result.title()
    # Tuning puts peak above the ghosts.
    tuned = tune_thresholds(cases, ThresholdGrid.for_lift(0.0))
    assert tuned.thresholds.peak >= 0.5
    assert evaluate(cases, tuned.thresholds).scores.pooled.score.n_spurious == 0


def test_no_cells_at_all_leave_the_confidence_open(specimen, segmenter):
    item = specimen.item("dark", np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.int32))
    result = evaluate(predict_maps(segmenter, LabeledDataset([item])), Thresholds(0.5, 0.05))
    assert result.confidence is None
    assert result.to_json()["confidence_auroc"] is None


@pytest.fixture
def data(specimen):
    """A data folder with the splits val and test; one set must not be trained on."""
    rows = []
    for split, set_name, allowed in (
        ("val", "own", "yes"),
        ("val", "foreign", "no"),
        ("test", "own", "yes"),
    ):
        for item in items_of_maps(specimen, 1, 9, f"{set_name}_{split}", (72, 96)):
            rows.append(
                {
                    "set": set_name,
                    "split": split,
                    "image": item.image.relative_to(specimen.folder),
                    "label": item.labels.relative_to(specimen.folder),
                    "group": f"{set_name}{split}",
                    "train_allowed": allowed,
                }
            )
    with (specimen.folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return specimen.folder


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "models" / "tiny.safetensors"
    path.parent.mkdir()
    save_model(path, tiny_network(), card(name="tiny"))
    return str(path)


def test_sets_that_must_not_be_trained_on_are_scored(data):
    assert load_split(data).set_names == ("foreign", "own")
    assert load_split(data, "test", ["own"]).set_names == ("own",)


def test_model_is_scored_at_its_own_thresholds_or_tuned_ones(data, model):
    fixed = evaluate_model(model, data, device="cpu")
    assert fixed.thresholds == Thresholds(0.5, 0.05)
    assert fixed.scores.pooled.score.n_images == 2
    tuned = evaluate_model(model, data, device="cpu", tune=True)
    assert tuned.thresholds.fill in ThresholdGrid.for_lift(0.0).fill


def test_command_scores_a_model_on_a_data_folder(data, model, capsys):
    arguments = ["--model", model, "--data", str(data), "--device", "cpu", "--json"]
    assert main([*arguments, "--split", "test", "--sets", "own", "--diameter", "none"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["sets"]) == ["own"]
    assert result["thresholds"] == {
        "peak": 0.5,
        "fill": 0.05,
        "min_area": 0,
        "min_prominence": 0.0,
    }
    assert result["sets"]["own"]["seconds_per_image"] > 0


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--split", "test", "--tune"], "tune on 'val'"),
        (["--diameter", "big"], "Diameter is 'big'; choose given, auto, none, or"),
        (["--diameter", "-3"], "positive number"),
        (["--sets", "yeast"], "no set named yeast"),
        (["--split", "train"], "no rows for the split train"),
    ],
)
def test_what_can_not_be_scored_is_one_sentence(data, model, capsys, extra, sentence):
    assert main(["--model", model, "--data", str(data), "--device", "cpu", *extra]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


def test_a_model_or_data_folder_that_is_not_there_is_named(data, capsys):
    assert main(["--model", "nowhere", "--data", str(data)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert main(["--model", "nowhere", "--data", str(data / "gone")]) == 2
    assert "gone" in capsys.readouterr().err


def test_diameters_of_the_command_line():
    assert [parse_diameter(text) for text in ("given", "auto", "none", "26.5")] == [
        "given",
        "auto",
        None,
        26.5,
    ]
    for wrong in ("nan", "inf", "0", ""):
        with pytest.raises(ValueError, match="Diameter is"):
            parse_diameter(wrong)
