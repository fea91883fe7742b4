"""Images that nobody labelled: gathered, read, and learned from a teacher alone."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile
import torch

from napari_dinocell.core.train import main as train
from napari_dinocell.core.training.data import UNKNOWN, LabeledDataset
from napari_dinocell.core.training.loss import map_loss, taught
from napari_dinocell.core.training.readers import read_index, read_labeled
from napari_dinocell.core.training.split import split_validation
from napari_dinocell.core.training.unlabelled import main


@pytest.fixture
def gathered(specimen):
    """An index of a field with two channels, one of them empty, and of a photo of discs."""
    plane, labels = specimen.discs((160, 160), 13, 12, dtype=np.uint16)
    field = specimen.write("plate/A01.tif", np.stack([plane, np.full_like(plane, 7)]))
    out = specimen.folder / "gathered"
    command = [str(out), str(field), "--model", "small", "--license", "CC0", "--axes", "CYX"]
    assert main(command) == 0
    return out, field, plane, labels, command


def test_gathering_writes_each_channel_with_cells_and_their_diameter(gathered):
    out, _, plane, labels, _ = gathered
    with (out / "index.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["group"].startswith("plate_A01_")
    assert row["licence"] == "CC0"
    np.testing.assert_array_equal(tifffile.imread(out / row["image"]), plane)
    areas = np.unique(labels[labels > 0], return_counts=True)[1]
    assert float(row["diameter"]) == pytest.approx(2 * np.sqrt(np.median(areas) / np.pi), rel=0.2)


def test_gathering_again_adds_only_what_is_new(gathered, specimen, capsys):
    out, field, plane, _, command = gathered
    before = (out / "index.csv").read_bytes()
    assert main(command) == 0
    assert (out / "index.csv").read_bytes() == before
    specimen.write("plate/A02.tif", plane)
    assert main([str(out), str(field), str(field.with_name("A02.tif")), *command[2:-2]]) == 0
    assert len(read_index(out, "train")) == 2


def test_fields_of_one_name_in_two_plates_are_both_gathered(gathered, specimen):
    out, _, plane, _, command = gathered
    other = specimen.write("other/plate/A01.tif", plane[::-1])
    assert main([str(out), str(other), *command[2:-2]]) == 0
    dataset = read_index(out, "train")
    assert len({item.group for item in dataset}) == 2
    np.testing.assert_array_equal(dataset.read(0)[0], plane)
    np.testing.assert_array_equal(dataset.read(1)[0], plane[::-1])


def test_gathering_goes_on_past_a_broken_file_and_says_so(gathered, specimen, capsys):
    out, _, _, _, command = gathered
    broken = specimen.folder / "broken.tif"
    broken.write_bytes(b"II*\0 nothing")
    assert main([str(out), str(broken), *command[1:]]) == 1
    assert "broken.tif" in capsys.readouterr().err


def test_unlabelled_images_are_read_as_unknown_at_their_scale(gathered):
    out, _, plane, _, _ = gathered
    dataset = read_labeled(out)
    assert not dataset[0].is_labeled
    assert 20 < dataset[0].diameter < 35
    pixels, labels = dataset.read(0)
    np.testing.assert_array_equal(pixels, plane)
    assert (labels == UNKNOWN).all()


def test_an_image_to_be_scored_needs_labels(gathered):
    out, *_ = gathered
    index = out / "index.csv"
    index.write_text(index.read_text().replace(",train,", ",val,"))
    with pytest.raises(ValueError, match="images to be scored need labels"):
        read_index(out, "val")


def test_nothing_without_labels_is_held_out(gathered, specimen):
    out, *_ = gathered
    labeled = [specimen.item(f"{n}", *specimen.discs((64, 64), 8, 4, seed=n)) for n in range(4)]
    training, validation = split_validation(LabeledDataset([*labeled, *read_labeled(out)]), 0.25)
    assert all(item.is_labeled for item in validation)
    assert sum(not item.is_labeled for item in training) == 1


def test_the_teacher_alone_tells_where_nobody_knows():
    generator = torch.Generator().manual_seed(0)
    distance, teacher = torch.rand(2, 2, 1, 6, 5, generator=generator)
    labels = torch.zeros(2, 6, 5, dtype=torch.int32)
    labels[0] = UNKNOWN
    target, known = taught(distance, labels, teacher, 0.25)
    torch.testing.assert_close(target[0], teacher[0])
    torch.testing.assert_close(target[1], 0.75 * distance[1] + 0.25 * teacher[1])
    assert map_loss(target, target, known).item() == 0
    wrong = target.clone()
    wrong[0] += 0.1  # of the image that nobody annotated
    assert map_loss(wrong, target, known).item() == pytest.approx(0.5 * 0.1**2, rel=1e-4)


def test_training_on_unlabelled_images_needs_a_teacher(gathered, specimen, capsys):
    assert gathered[0].name == "gathered"
    for split in ("train", "val"):
        plane, labels = specimen.discs((96, 96), 9, 6, seed=len(split))
        specimen.write(f"own/{split}.tif", plane)
        specimen.write(f"own/{split}_labels.tif", labels.astype(np.uint16))
    rows = [f"discs,{s},{s}.tif,{s}_labels.tif,{s}" for s in ("train", "val")]
    (specimen.folder / "own/index.csv").write_text(
        "\n".join(["set,split,image,label,group", *rows])
    )
    manifest = specimen.folder / "both.yaml"
    manifest.write_text(
        json.dumps({"sources": [{"kind": "index", "path": p} for p in ("own", "gathered")]})
    )
    command = [
        "small",
        f"data.source={manifest}",
        f"data.validation={specimen.folder / 'own'}",
        "data.sets=null",
        f"out={specimen.folder / 'run'}",
        "crops.size=64",
        "crops.pool=0",
        "crops.cache=null",
        "steps=2",
        "batch=2",
        "name=student",
    ]
    assert train([*command, "distill=null"]) == 2
    assert "set distill.teacher" in capsys.readouterr().err
    assert train([*command, "distill.teacher=small", "model.init=small"]) == 0
    assert (specimen.folder / "run/student.safetensors").is_file()
