"""Folders of images and labels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.folders import group_of, read_folder
from napari_dinocell.core.training.readers import read_labeled

SQUARE = np.zeros((20, 30), np.int32)
SQUARE[4:8, 4:8] = 3
SQUARE[10:18, 10:18] = 7
GRAY = np.arange(600, dtype=np.uint8).reshape(20, 30)


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
