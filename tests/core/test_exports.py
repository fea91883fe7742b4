import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dinocell.core.exports import to_json, write_json, write_labels, write_table
from napari_dinocell.core.images import read_image

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(0, "u2"), (1, "u2"), (65535, "u2"), (65536, "u4"), (2**32 - 1, "u4")],
)
@pytest.mark.parametrize("given_dtype", [np.int64, np.uint32])
def test_labels_come_back_in_the_smallest_type_that_holds_them(
    tmp_path, highest, dtype, given_dtype
):
    labels = np.zeros((7, 9), given_dtype)
    labels[2, 3] = highest
    write_labels(tmp_path / "a.tif", labels, "YX")
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image.array, labels)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "TZYX", "ZTYX"])
def test_axes_and_pixel_size_are_kept(tmp_path, axes):
    labels = RNG.integers(0, 9, [{"T": 2, "Z": 3, "Y": 8, "X": 9}[a] for a in axes])
    write_labels(tmp_path / "a.tif", labels, axes, (0.65, 0.325), 2.5 if "Z" in axes else None)
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.pixel_size_um) == (axes, (0.65, 0.325))
    assert image.z_step_um == (2.5 if "Z" in axes else None)
    np.testing.assert_array_equal(image.array, labels)


def test_the_same_labels_give_the_same_bytes(tmp_path):
    labels = RNG.integers(0, 9, (2, 8, 9))
    for name in "ab":
        write_labels(tmp_path / f"{name}.tif", labels, "ZYX", (0.5, 0.5), 2.0)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("axes", ["XY", "YXZ", "TXYZ"])
def test_y_and_x_are_stored_last(tmp_path, axes):
    labels = RNG.integers(0, 9, [{"T": 2, "Z": 3, "Y": 8, "X": 9}[a] for a in axes])
    write_labels(tmp_path / "a.tif", labels, axes, (0.5, 2.0))
    image = read_image(tmp_path / "a.tif")
    assert image.axes[-2:] == "YX"
    assert image.pixel_size_um == (0.5, 2.0)
    np.testing.assert_array_equal(
        image.array, np.einsum(f"{axes.lower()}->{image.axes.lower()}", labels)
    )


def test_labels_are_compressed_and_large_ones_tiled(tmp_path):
    labels = np.zeros((3000, 2500), np.int32)
    labels[1000:2000, 1000:2000] = 70000
    write_labels(tmp_path / "a.tif", labels, "YX")
    assert (tmp_path / "a.tif").stat().st_size < labels.nbytes / 50
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.pages[0].is_tiled
        assert tif.is_ome
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, labels)


def test_labels_may_be_views_of_any_layout(tmp_path):
    labels = np.asfortranarray(RNG.integers(0, 9, (8, 9)).astype(">i4"))[::-1, ::2]
    labels.flags.writeable = False
    write_labels(tmp_path / "a.tif", labels, "YX")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, labels)


@pytest.mark.parametrize(
    ("labels", "axes", "error", "complaint"),
    [
        (np.full((3, 3), -1), "YX", ValueError, "from -1 to -1"),
        (np.full((3, 3), 2**32), "YX", ValueError, "4294967296"),
        (np.zeros((3, 3)), "YX", TypeError, "float64"),
        (np.zeros((3, 3, 3), int), "CYX", ValueError, "no channels"),
        (np.zeros((3, 3, 3), int), "YX", ValueError, "the image has 3"),
    ],
)
def test_what_is_no_label_image_is_refused(tmp_path, labels, axes, error, complaint):
    with pytest.raises(error, match=complaint):
        write_labels(tmp_path / "a.tif", labels, axes)
    assert list(tmp_path.iterdir()) == []


def test_tables_come_back(tmp_path):
    table = {
        "label": np.array([1, 2, 70000]),
        "area": np.array([0.1, np.nan, 123456.789]),
        'a, "name"': np.array(["x", "ü, y", "z"]),
    }
    write_table(tmp_path / "a.csv", table)
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["label"] for row in rows] == ["1", "2", "70000"]
    assert [row["area"] for row in rows] == ["0.1", "", "123456.8"]
    assert [row['a, "name"'] for row in rows] == ["x", "ü, y", "z"]


def test_a_table_without_rows_has_its_header(tmp_path):
    write_table(tmp_path / "a.csv", {"label": np.zeros(0, int), "area": np.zeros(0)})
    assert (tmp_path / "a.csv").read_text() == "label,area\n"


def test_columns_of_different_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'area': 2"):
        write_table(tmp_path / "a.csv", {"label": [1], "area": [1.0, 2.0]})


def test_records_come_back_as_plain_json(tmp_path):
    record = {
        "path": Path("ü") / "a.tif",
        "threshold": np.float32(0.5),
        "count": np.int64(3),
        "shape": (1, 2),
        "sizes": np.array([[1, 2], [3, 4]]),
        "nothing": float("nan"),
        "flag": np.bool_(True),
        "names": {"b", "a"},
        "inner": {1: None},
    }
    write_json(tmp_path / "a.json", record)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "path": str(Path("ü") / "a.tif"),
        "threshold": 0.5,
        "count": 3,
        "shape": [1, 2],
        "sizes": [[1, 2], [3, 4]],
        "nothing": None,
        "flag": True,
        "names": ["a", "b"],
        "inner": {"1": None},
    }


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="object"):
        to_json({"a": [object()]})
