"""Indices and manifests of labeled data."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from napari_dinocell.core.training.decode import read_plane
from napari_dinocell.core.training.readers import read_index, read_labeled, read_manifest

SQUARE = np.zeros((20, 30), np.int32)
SQUARE[4:8, 4:8] = 3
SQUARE[10:18, 10:18] = 7
GRAY = np.arange(600, dtype=np.uint8).reshape(20, 30)

COCO = {
    "images": [
        {"id": 5, "file_name": "A172_Phase_A7_1_00d00h00m_1.tif", "height": 20, "width": 30}
    ],
    "annotations": [
        {"id": 1, "image_id": 5, "segmentation": [[4, 4, 8, 4, 8, 8, 4, 8]], "area": 16}
    ],
}


@pytest.fixture
def index(specimen):
    """A folder with an index.csv: sets `good` and `secret`, the latter not for training."""
    rows = []
    for name, allowed in (("good", "yes"), ("secret", "no")):
        for number, split in enumerate(("train", "train", "val")):
            stem = f"{name}/{split}/{number}"
            specimen.write(f"{stem}.png", GRAY)
            specimen.write(f"{stem}_labels.png", SQUARE.astype(np.uint16))
            rows.append([name, split, f"{stem}.png", f"{stem}_labels.png", f"{stem}", allowed])
    _write_index(specimen.folder, rows)
    return specimen.folder


def _write_index(folder, rows):
    with (folder / "index.csv").open("w", newline="") as file:
        header = ["set", "split", "image", "label", "group", "train_allowed"]
        csv.writer(file).writerows([header, *rows])


def test_index_gives_the_images_of_a_split_with_their_statistics(index):
    dataset = read_index(index, "val")
    assert [item.set_name for item in dataset] == ["good", "secret"]
    assert dataset[0].n_instances == 2
    assert dataset[0].diameter == pytest.approx((2 * 4 + 2 * 8) / np.sqrt(np.pi) / 2)
    np.testing.assert_array_equal(dataset.read(0)[1], SQUARE)


def test_training_leaves_out_sets_that_must_not_be_trained_on(index):
    assert read_index(index, "train").set_names == ("good",)
    assert read_index(index, "val", for_training=True).set_names == ("good",)
    with pytest.raises(ValueError, match="secret must not be trained on"):
        read_index(index, "train", sets=["good", "secret"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train", "sets": ["bad"]}, "no set named bad"),
        ({"split": "tset"}, "no rows for the split tset"),
        ({"split": "train", "weights": {"secret": 1.0}}, "Weights name secret"),
    ],
)
def test_wrong_names_in_an_index_are_named(index, options, message):
    with pytest.raises(ValueError, match=message):
        read_index(index, **options)


def test_group_in_two_splits_is_refused(specimen):
    rows = [["s", split, "a.png", "b.png", "field 1", "yes"] for split in ("train", "val")]
    _write_index(specimen.folder, rows)
    with pytest.raises(ValueError, match="group field 1 in train and in val"):
        read_index(specimen.folder, "train")


def test_absent_index_and_columns_are_named(specimen):
    with pytest.raises(FileNotFoundError, match=r"index\.csv"):
        read_index(specimen.folder, "train")
    (specimen.folder / "index.csv").write_text("set,split,image\na,b,c\n")
    with pytest.raises(ValueError, match="lacks the columns group, label"):
        read_index(specimen.folder, "train")


# Manifests


def _manifest(folder, *sources):
    path = folder / "mix.yaml"
    path.write_text(yaml.safe_dump({"sources": list(sources)}))
    return path


def test_manifest_mixes_sources_with_weights(index, specimen):
    specimen.item("mine/a_tile1", GRAY, SQUARE)
    specimen.write("images/A172_Phase_A7_1_00d00h00m_1.tif", GRAY)
    (index / "coco.json").write_text(json.dumps(COCO))
    path = _manifest(
        index,
        {"kind": "index", "path": ".", "weights": {"good": 2.0}},
        {"kind": "folder", "path": "mine", "group": "(.+)_tile", "weight": 5.0},
        {"kind": "coco", "path": "coco.json", "image_folder": "images"},
    )
    dataset = read_manifest(path)
    assert dataset.set_weights == {"good": 2.0, "mine": 5.0, "livecell": 1.0}
    assert [item.group for item in dataset][-2:] == ["a", "A172_Phase_A7_1"]
    assert read_labeled(path, weights={"mine": 1.0}).set_weights["mine"] == 1.0
    assert read_labeled(path, sets=["mine", "good"]).set_names == ("good", "mine")
    with pytest.raises(ValueError, match="no set named other"):
        read_labeled(path, sets=["other"])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([{"kind": "zip", "path": "a"}], "kind"),
        ([{"kind": "folder", "path": "mine", "wieght": 1}], "wieght"),
        ([{"kind": "folder", "path": "mine", "weight": 0}], "greater than 0"),
        ([], "at least 1"),
        ([{"kind": "folder", "path": "mine"}] * 2, "two sources with the set mine"),
        ([{"kind": "index", "path": ".", "sets": ["secret"]}], "must not be trained on"),
        ([{"kind": "index", "path": ".", "split": "val", "sets": ["secret"]}], "must not be"),
    ],
)
def test_wrong_manifests_are_explained(index, specimen, sources, message):
    specimen.item("mine/a", GRAY, SQUARE)
    with pytest.raises(ValueError, match=message):
        read_manifest(_manifest(index, *sources))


def test_absent_manifest_and_broken_yaml_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="no manifest"):
        read_manifest(tmp_path / "mix.yaml")
    (tmp_path / "mix.yaml").write_text("sources: [")
    with pytest.raises(ValueError, match="is not YAML"):
        read_manifest(tmp_path / "mix.yaml")


# The data that this project trains on


@pytest.mark.shared
@pytest.mark.skipif("DINOCELL_DATA" not in os.environ, reason="DINOCELL_DATA names no data folder")
def test_no_image_and_no_group_is_in_two_splits_of_the_data():
    folder = Path(os.environ["DINOCELL_DATA"])
    splits, groups = defaultdict(set), defaultdict(set)
    with (folder / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            plane = read_plane(folder / row["image"])
            digest = hashlib.sha256(f"{plane.shape}{plane.dtype}".encode() + plane.tobytes())
            splits[digest.hexdigest()].add(row["split"])
            groups[row["group"]].add(row["split"])
    assert len(splits) > 500
    assert [s for s in splits.values() if len(s) > 1] == []
    assert [g for g, s in groups.items() if len(s) > 1] == []
    assert all(i.n_instances > 0 and i.diameter > 3 for i in read_index(folder, "train"))
