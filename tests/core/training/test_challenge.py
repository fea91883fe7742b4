"""Folders of the Cell Tracking Challenge."""

from __future__ import annotations

import numpy as np
import pytest

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.challenge import read_challenge
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.decode import UNKNOWN
from napari_dinocell.core.training.readers import read_labeled

SQUARE = np.zeros((20, 30), np.int32)
SQUARE[4:8, 4:8] = 3
SQUARE[10:18, 10:18] = 7
GRAY = np.arange(600, dtype=np.uint8).reshape(20, 30)


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
