"""Layouts in which labeled data comes."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import disk

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.challenge import read_challenge
from napari_dinocell.core.training.coco import decode_runs, read_coco
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.decode import UNKNOWN, read_plane
from napari_dinocell.core.training.folders import group_of, read_folder
from napari_dinocell.core.training.readers import read_index, read_labeled, read_manifest

SQUARE = np.zeros((20, 30), np.int32)
SQUARE[4:8, 4:8] = 3
SQUARE[10:18, 10:18] = 7
GRAY = np.arange(600, dtype=np.uint8).reshape(20, 30)


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


# index.csv


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


# Folders


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/{}.png", "labels/{}.png"),
        ("images/{}.tif", "masks/{}_masks.png"),
        ("{}.tif", "{}_labels.tif"),
        ("{}.tif", "{}_cp_masks.png"),
        ("{}_img.png", "{}_masks.png"),
        ("{}_img.tif", "{}_masks.tif"),
    ],
)
def test_folder_layouts_pair_images_with_labels(specimen, image, labels):
    for n, stem in enumerate(("000", "001", "well_B2")):
        specimen.write(image.format(stem), GRAY + n)
        specimen.write(labels.format(stem), (SQUARE * (n + 1)).astype(np.uint16))
    dataset = read_labeled(specimen.folder)
    assert len(dataset) == 3
    assert dataset.set_names == (specimen.folder.name,)
    for n in range(3):
        plane, read = dataset.read(n)
        np.testing.assert_array_equal(plane, GRAY + n)
        np.testing.assert_array_equal(read, SQUARE * (n + 1))


def test_outlines_and_flows_of_cellpose_are_no_images(specimen):
    for name in ("a.tif", "a_cp_outlines.png", "a_flows.tif"):
        specimen.write(name, GRAY)
    specimen.write("a_cp_masks.png", SQUARE.astype(np.uint16))
    (specimen.folder / "a_seg.npy").write_bytes(b"a pickle")
    assert [item.image.name for item in read_folder(specimen.folder)] == ["a.tif"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.tif"], r"1 of 1 files in .* have no labels, first a\.tif"),
        (["a.tif", "a_masks.tif", "b_masks.tif"], r"have no image, first b_masks\.tif"),
        (["a.tif", "a_img.tif", "a_masks.tif"], r"both belong to a"),
        ([], "holds no images"),
        (["images/a.tif"], "none named labels"),
    ],
)
def test_incomplete_folders_are_explained(specimen, files, message):
    for name in files:
        specimen.write(name, SQUARE.astype(np.uint16))
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        read_folder(specimen.folder)


def test_pickled_labels_of_cellpose_are_explained(specimen):
    specimen.write("a.tif", GRAY)
    (specimen.folder / "a_seg.npy").write_bytes(b"a pickle")
    with pytest.raises(ImageFileError, match=r"_seg\.npy, which is a pickle"):
        read_folder(specimen.folder)


def test_group_pattern_joins_the_tiles_of_a_field(specimen):
    for stem in ("f1_tile0", "f1_tile1", "f2_tile0"):
        specimen.item(stem, GRAY, SQUARE)
    items = read_folder(specimen.folder, group=r"(.+)_tile\d")
    assert [item.group for item in items] == ["f1", "f1", "f2"]
    with pytest.raises(ValueError, match="does not match f1_tile0"):
        read_folder(specimen.folder, group="(g.+)_")
    with pytest.raises(ValueError, match="no regular expression"):
        group_of("a", "(")


# COCO


def _coco(specimen, annotations, as_dict=False):
    name = "A172_Phase_A7_1_00d00h00m_1.tif"
    specimen.write(f"images/A172/{name}", GRAY)
    annotations = [{"id": i, "image_id": 5} | a for i, a in enumerate(annotations)]
    content = {
        "images": [{"id": 5, "file_name": name, "height": 20, "width": 30}],
        "annotations": {str(a["id"]): a for a in annotations} if as_dict else annotations,
    }
    path = specimen.folder / "coco.json"
    path.write_text(json.dumps(content))
    return read_coco(path, specimen.folder / "images")


def _box(y, x, height, width):
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {"segmentation": [corners], "area": height * width, "iscrowd": 0}


@pytest.mark.parametrize("as_dict", [False, True])
def test_livecell_polygons_become_labels(specimen, as_dict):
    (item,) = _coco(specimen, [_box(4, 4, 4, 4), _box(10, 10, 8, 8)], as_dict)
    assert item.group == "A172_Phase_A7_1"
    labels = LabeledDataset([item]).read(0)[1]
    np.testing.assert_array_equal(labels > 0, SQUARE > 0)
    assert item.n_instances == len(np.unique(labels[labels > 0])) == 2
    assert item.diameter == pytest.approx(12 / np.sqrt(np.pi))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(item.labels))(), labels)


def test_polygon_area_is_the_number_of_its_pixels(specimen):
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    corners = np.stack((15.2 + 7 * np.cos(angle), 9.7 + 7 * np.sin(angle)), axis=1)
    annotation = {"segmentation": [corners.ravel().tolist()], "area": 154.0}
    (item,) = _coco(specimen, [annotation])
    y, x = disk((9.2, 14.7), 7, shape=(20, 30))
    expected = np.zeros((20, 30), bool)
    expected[y, x] = True
    assert np.count_nonzero((item.labels() > 0) != expected) <= 3


def test_small_instance_inside_a_large_one_is_not_hidden(specimen):
    (item,) = _coco(specimen, [_box(5, 5, 3, 3), _box(2, 2, 12, 12)])
    labels = item.labels()
    areas = np.sort(np.bincount(labels.ravel())[1:])
    np.testing.assert_array_equal(areas, [9, 144 - 9])


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_become_labels_and_crowds_are_unknown(specimen, compressed):
    crowd = np.zeros((20, 30), bool)
    crowd[2:9, 3:12] = True
    cells = [(SQUARE == 3, 0), (crowd, 1)]
    annotations = []
    for mask, is_crowd in cells:
        runs = _runs(mask)
        counts = _encode_runs(runs) if compressed else runs
        annotations.append(
            {
                "segmentation": {"counts": counts, "size": [20, 30]},
                "iscrowd": is_crowd,
                "area": int(mask.sum()),
            }
        )
    (item,) = _coco(specimen, annotations)
    labels = item.labels()
    np.testing.assert_array_equal(labels == 1, SQUARE == 3)
    np.testing.assert_array_equal(labels == UNKNOWN, crowd & (SQUARE != 3))
    assert item.n_instances == 1


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 1 << 20), max_size=12))
def test_compressed_run_lengths_are_decoded(runs):
    assert decode_runs(_encode_runs(runs)) == tuple(runs)


def test_known_compressed_string_is_decoded():
    # X, o, 0 are 40, 63, 0 above the first character: groups 8 and 31 that go on, and 0.
    assert decode_runs("6") == (6,)
    assert decode_runs("Xo00") == (8 + 31 * 32, 0)


def _runs(mask):
    """Lengths of runs down the columns, the first one outside."""
    values = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], values)).astype(int))).tolist()
    return np.diff([0, *edges, values.size]).tolist()


def _encode_runs(runs):
    """COCO's compression, from its description."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        groups = [value & 31]
        value >>= 5
        while not (value == 0 and not groups[-1] & 16) and not (value == -1 and groups[-1] & 16):
            groups.append(value & 31)
            value >>= 5
        text += "".join(chr(48 + (g | 32)) for g in groups[:-1]) + chr(48 + groups[-1])
    return text


def test_damaged_coco_files_are_explained(specimen):
    runs = {"segmentation": {"counts": [5, 5], "size": [20, 30]}}
    with pytest.raises(ImageFileError, match=r"covers 10 px, but its image has 20 x 30"):
        _coco(specimen, [runs])
    path = specimen.folder / "coco.json"
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images .* first A172_Phase"):
        read_coco(path, specimen.folder / "elsewhere")
    path.write_text("{}")
    with pytest.raises(ImageFileError, match="not a COCO file"):
        read_coco(path, specimen.folder)


# Cell Tracking Challenge


def _movie(specimen, frames, kind="GT"):
    for time in frames:
        specimen.write(f"01/t{time:03d}.tif", GRAY.astype(np.uint16) * 257)
        specimen.write(f"01_{kind}/SEG/man_seg{time:03d}.tif", SQUARE.astype(np.uint16))


def test_challenge_movies_give_annotated_frames(specimen):
    _movie(specimen, [0, 7])
    specimen.write("01/t001.tif", GRAY)
    dataset = read_labeled(specimen.folder)
    assert [item.image.name for item in dataset] == ["t000.tif", "t007.tif"]
    assert {item.group for item in dataset} == {f"{specimen.folder.name}/01"}
    plane, labels = dataset.read(1)
    assert plane.dtype == np.uint16
    np.testing.assert_array_equal(labels, SQUARE)


def test_gold_frames_go_before_silver_ones(specimen):
    _movie(specimen, [0, 1], kind="ST")
    _movie(specimen, [1])
    specimen.write("01_GT/SEG/man_seg001.tif", (SQUARE > 5).astype(np.uint16))
    counts = {
        truth: [item.n_instances for item in read_challenge(specimen.folder, truth=truth)]
        for truth in ("best", "gold", "silver")
    }
    assert counts == {"best": [2, 1], "gold": [1], "silver": [2, 2]}


def test_cells_that_have_a_marker_but_were_not_drawn_make_the_ground_unknown(specimen):
    _movie(specimen, [0])
    markers = np.zeros_like(SQUARE)
    markers[5, 5], markers[12, 12], markers[3, 22] = 3, 7, 9
    specimen.write("01_GT/TRA/man_track000.tif", markers.astype(np.uint16))
    (item,) = read_challenge(specimen.folder)
    labels = LabeledDataset([item]).read(0)[1]
    np.testing.assert_array_equal(labels > 0, SQUARE > 0)
    assert labels[3, 22] == UNKNOWN
    assert labels[0, 29] == UNKNOWN
    assert labels[9, 9] == 0, "the ring around drawn cells is background"
    markers[3, 22] = 0
    specimen.write("01_GT/TRA/man_track000.tif", markers.astype(np.uint16))
    np.testing.assert_array_equal(LabeledDataset([item]).read(0)[1], SQUARE)


def test_other_challenge_folders_are_explained(specimen):
    with pytest.raises(FileNotFoundError, match="no movies 01"):
        read_challenge(specimen.folder)
    specimen.write("01/t000.tif", GRAY)
    with pytest.raises(FileNotFoundError, match="no best annotation"):
        read_challenge(specimen.folder)
    specimen.write("01_GT/SEG/man_seg003.tif", SQUARE.astype(np.uint16))
    with pytest.raises(FileNotFoundError, match="Frame 003"):
        read_challenge(specimen.folder)
    specimen.write("01_GT/SEG/man_seg_000_012.tif", SQUARE.astype(np.uint16))
    with pytest.raises(ImageFileError, match="3-D movie"):
        read_challenge(specimen.folder)


# Manifests


def _manifest(folder, *sources):
    path = folder / "mix.yaml"
    path.write_text(yaml.safe_dump({"sources": list(sources)}))
    return path


def test_manifest_mixes_sources_with_weights(index, specimen):
    specimen.item("mine/a_tile1", GRAY, SQUARE)
    _coco(specimen, [_box(4, 4, 4, 4)])
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
