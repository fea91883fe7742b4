"""COCO files, as LIVECell's."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import disk

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.coco import decode_runs, read_coco
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.decode import UNKNOWN

SQUARE = np.zeros((20, 30), np.int32)
SQUARE[4:8, 4:8] = 3
SQUARE[10:18, 10:18] = 7
GRAY = np.arange(600, dtype=np.uint8).reshape(20, 30)


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
