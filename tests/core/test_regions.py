import json
import time
import zipfile

import numpy as np
import pytest
import roifile
from skimage.draw import disk, polygon2mask

from napari_dinocell.core.outlines import parts
from napari_dinocell.core.regions import RoiCount, write_geojson, write_rois


def two_cells():
    labels = np.zeros((60, 80), np.int32)
    labels[disk((20, 20), 12)] = 3
    labels[disk((40, 55), 15)] = 12
    return labels


def test_imagej_regions_enclose_exactly_their_cells(tmp_path):
    labels = two_cells()
    assert write_rois(tmp_path / "a.zip", labels) == RoiCount(written=2, dropped=0)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == ["00003", "00012"]
    for roi in rois:
        # Corners lie on pixel edges: half a pixel from the centers that are tested.
        mask = polygon2mask(labels.shape, roi.coordinates()[:, ::-1] - 0.5)
        np.testing.assert_array_equal(mask, labels == int(roi.name))


def test_the_same_cells_give_the_same_bytes_and_files_that_can_be_read(tmp_path, monkeypatch):
    for name, now in (("a", 10**9), ("b", 10**9 + 1000)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        write_rois(tmp_path / f"{name}.zip", two_cells())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert all(entry.external_attr >> 16 & 0o400 for entry in archive.infolist())


def test_a_cell_in_two_parts_becomes_two_regions(tmp_path):
    labels = np.zeros((9, 9), np.int32)
    labels[1:3, 1:3] = labels[6:8, 6:8] = 4
    labels[5, 1] = labels[6, 2] = 5
    assert write_rois(tmp_path / "a.zip", labels).written == 3
    names = [roi.name for roi in roifile.roiread(tmp_path / "a.zip")]
    assert names == ["00004", "00004-2", "00005"]


@pytest.mark.parametrize(
    ("axes", "position"),
    [("ZYX", {"position": 2}), ("TYX", {"position": 2}), ("TZYX", {"t_position": 2})],
)
def test_regions_of_stacks_know_their_plane(tmp_path, axes, position):
    labels = np.zeros((2,) * (len(axes) - 2) + (60, 80), np.int32)
    labels[(1,) * (len(axes) - 2)] = two_cells()
    write_rois(tmp_path / "a.zip", labels, axes)
    roi = roifile.roiread(tmp_path / "a.zip")[0]
    assert {name: getattr(roi, name) for name in position} == position
    assert roi.name.endswith("0002-00003")


def test_parts_beyond_the_reach_of_the_format_are_counted(tmp_path):
    labels = np.zeros((4, 40_000), np.uint16)
    labels[1:3, 10:20] = 1
    labels[1:3, 39_000:39_010] = 2
    assert write_rois(tmp_path / "a.zip", labels) == RoiCount(written=1, dropped=1)


def test_no_cells_give_an_empty_archive(tmp_path):
    assert write_rois(tmp_path / "a.zip", np.zeros((9, 9), int)) == RoiCount(0, 0)


def area(polygon):
    """Shoelace rule over closed (x, y) rings."""
    rings = [np.array(ring) for ring in polygon]
    assert all((ring[0] == ring[-1]).all() for ring in rings)
    return sum(np.sum(r[:-1, 0] * r[1:, 1] - r[1:, 0] * r[:-1, 1]) / 2 for r in rings)


def test_geojson_polygons_have_the_area_of_their_cells(tmp_path):
    labels = two_cells()
    labels[38:42, 53:57] = 0
    assert write_geojson(tmp_path / "a.geojson", labels) == 2
    collection = json.loads((tmp_path / "a.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        cell_id = int(feature["properties"]["name"])
        assert feature["geometry"]["type"] == "Polygon"
        assert feature["properties"]["objectType"] == "detection"
        assert area(feature["geometry"]["coordinates"]) == np.sum(labels == cell_id)
    assert len(collection["features"][1]["geometry"]["coordinates"]) == 2


def test_geojson_coordinates_are_x_before_y(tmp_path):
    labels = np.zeros((5, 9), int)
    labels[1, 7] = 1
    write_geojson(tmp_path / "a.geojson", labels)
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    corners = {tuple(point) for point in feature["geometry"]["coordinates"][0]}
    assert corners == {(7, 1), (8, 1), (7, 2), (8, 2)}


def test_a_cell_in_two_parts_is_one_feature(tmp_path):
    labels = np.zeros((9, 9), np.int32)
    labels[1:3, 1:3] = labels[6:8, 6:8] = 4
    assert write_geojson(tmp_path / "a.geojson", labels) == 1
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert sum(area(p) for p in feature["geometry"]["coordinates"]) == 8


def test_measurements_go_along(tmp_path):
    table = {"label": [12, 3], "area": np.array([np.nan, 2.5]), "name": np.array(["a", "b"])}
    write_geojson(tmp_path / "a.geojson", two_cells(), "YX", table)
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [f["properties"]["measurements"] for f in features] == [{"area": 2.5}, {}]


def test_features_of_stacks_know_their_plane(tmp_path):
    labels = np.stack([np.zeros((60, 80), int), two_cells()])
    write_geojson(tmp_path / "a.geojson", labels, "TYX")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert features[0]["geometry"]["plane"] == {"c": -1, "z": 0, "t": 1}


@pytest.mark.parametrize("writer", [write_rois, write_geojson])
def test_what_is_no_label_image_is_refused(tmp_path, writer):
    with pytest.raises(TypeError, match="float64"):
        writer(tmp_path / "a", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="no channels"):
        writer(tmp_path / "a", np.zeros((3, 3, 3), int), "CYX")
    assert list(tmp_path.iterdir()) == []


def test_an_outline_is_the_same_wherever_the_cell_lies():
    mask = two_cells() == 3
    (here,), (there,) = parts(mask), parts(np.roll(mask, (3, 4), (0, 1)))
    np.testing.assert_array_equal(here + np.array([3, 4]), there)
