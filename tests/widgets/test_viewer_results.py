"""Table, files and threads of a run in a real viewer."""

import csv
import json

import numpy as np
import pytest
import tifffile
from synthetic import discs, n_discs

from napari_dinocell.core.images import read_image
from napari_dinocell.widgets.editing import ACCEPT, DELETE
from napari_dinocell.widgets.export import KINDS

pytestmark = pytest.mark.qt


@pytest.fixture
def corrected(segmented, wait):
    """Cells of which one is deleted and one accepted."""
    viewer, panel = segmented(discs(), scale=(0.5, 0.5), units=("um", "um"), axis_labels=("y", "x"))
    for tool, point in ((DELETE, (10.0, 10.0)), (ACCEPT, (10.0, 30.0))):
        panel.results.tools.take(tool)
        panel.results.tools.apply([point])
        panel.results.tools.put_away()
    return viewer, panel


def write(panel, wait, kind, folder):
    path = folder / f"cells{KINDS[kind][1]}"
    panel.results.export(kind, path)
    wait(lambda: "Wrote" in panel.status.text() or "⚠" in panel.status.text())
    assert "Wrote" in panel.status.text()
    return path


def test_the_table_has_a_row_for_every_label_at_its_own_number(segmented, wait):
    viewer, panel = segmented(discs())
    layer = viewer.layers["image cells"]
    wait(lambda: "area" in layer.features)
    ids, areas = np.unique(layer.data[layer.data > 0], return_counts=True)
    table = layer.features
    assert table["label"].tolist() == list(range(len(table)))
    np.testing.assert_array_equal(table["area"][ids], areas)
    assert table["area"].notna().sum() == n_discs()
    assert {"centroid-0", "intensity_mean", "height"} <= set(table)
    panel.results.sliders.peak.setValue(0.95)
    wait(lambda: layer.features["area"].notna().sum() == len(np.unique(layer.data)) - 1)


def test_the_distance_map_lies_below_the_cells_and_is_what_they_are_cut_from(segmented, wait):
    viewer, panel = segmented(discs(), scale=(2, 3), translate=(4, 5))
    panel.results.map_button.click()
    wait(lambda: len(viewer.layers) == 3)
    names = [layer.name for layer in viewer.layers]
    assert names == ["image", "image distance map", "image cells"]
    shown = viewer.layers["image distance map"]
    np.testing.assert_array_equal(shown.translate, (4, 5))
    peak = panel.preview.peak * 65535
    cells = viewer.layers["image cells"].data
    assert all(shown.data[cells == cell].max() > peak for cell in np.unique(cells[cells > 0]))
    # It is no image to be segmented, even where the user clicks it.
    viewer.layers.selection.active = shown
    assert panel.form.layer == viewer.layers["image"]
    assert [text for text, _ in panel.form.image.options] == ["image"]


def test_exported_labels_hold_corrected_and_other_cells_with_pixel_size(corrected, wait, tmp_path):
    viewer, panel = corrected
    saved = panel.results.autosaver.path
    wait(saved.exists)
    path = write(panel, wait, "labels", tmp_path)
    assert not saved.exists()
    labels = tifffile.imread(path)
    assert np.unique(labels).tolist() == list(range(n_discs()))
    shown = (viewer.layers["image cells"].data > 0) | (viewer.layers["image corrected"].data > 1)
    np.testing.assert_array_equal(labels > 0, shown)
    assert labels[20, 20] == 0
    assert labels[20, 60] > 0
    assert read_image(path).pixel_size_um == (0.5, 0.5)


def test_the_other_files_tell_of_the_same_cells(corrected, wait, tmp_path):
    _, panel = corrected
    with write(panel, wait, "table", tmp_path).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == n_discs() - 1
    area = float(rows[0]["area"])
    assert float(rows[0]["area_um2"]) == pytest.approx(area / 4)
    panel.say("")
    record = json.loads(write(panel, wait, "run", tmp_path).read_text())
    assert record["verified_cells"] == 1
    assert record["thresholds"]["peak"] == pytest.approx(panel.preview.peak)
    panel.say("")
    zarr = read_image(write(panel, wait, "zarr", tmp_path))
    assert len(np.unique(np.asarray(zarr.array[:]))) == n_discs()


def test_a_table_of_a_movie_has_the_columns_of_the_command_line(segmented, wait, tmp_path):
    _, panel = segmented(np.stack([discs()] * 2), axis_labels=("t", "y", "x"))
    with write(panel, wait, "table", tmp_path).open() as file:
        frames = [row["frame"] for row in csv.DictReader(file)]
    assert frames == ["0"] * n_discs() + ["1"] * n_discs()


def test_the_measure_panel_measures_cells_with_their_corrections(corrected, wait):
    from napari_dinocell.widgets.measure_panel import MeasurePanel  # noqa: PLC0415

    viewer, _ = corrected
    layer, over = viewer.layers["image cells"], viewer.layers["image corrected"]
    wait(lambda: "area" in layer.features and len(layer.features.dropna()) == n_discs() - 2)
    before = layer.features.copy()
    panel = MeasurePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Measure cells")
    assert [panel.labels.itemText(i) for i in range(panel.labels.count())] == ["image cells"]
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None)
    assert f"{n_discs() - 1} cells measured with the corrections" in panel.runner.status.text()
    shown = np.where(over.data > 1, layer.data.max() + over.data, layer.data)
    areas = np.unique(shown[shown > 0], return_counts=True)[1]
    assert sorted(panel.table["area"]) == sorted(areas)
    places = set(zip(panel.table["centroid-0"], panel.table["centroid-1"], strict=True))
    assert (20, 60) in places  # the accepted cell
    assert (20, 20) not in places  # the deleted one
    # napari's table goes by the ids of the layer, which are others.
    assert layer.features.equals(before)
    viewer.layers.remove("image corrected")
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None)
    assert "Features table" in panel.runner.status.text()


def test_corrections_alone_are_measured_by_their_own_ids(corrected, wait):
    from napari_dinocell.widgets.measure_panel import MeasurePanel  # noqa: PLC0415

    viewer, _ = corrected
    panel = MeasurePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Measure cells")
    assert panel.labels.currentText() == "image cells"
    viewer.layers.remove("image cells")
    assert panel.labels.currentText() == "image corrected"
    assert panel.image.currentText() == "image"
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None)
    assert "1 cell measured" in panel.runner.status.text()
    layer = viewer.layers["image corrected"]
    (cell,) = set(np.unique(layer.data)) - {0, 1}
    mask = layer.data == cell
    table = layer.features.dropna()
    assert table["label"].tolist() == [cell]
    assert table["area"].tolist() == [mask.sum()]
    np.testing.assert_allclose(
        table["intensity_mean"], viewer.layers["image"].data[mask].mean(), rtol=1e-6
    )


def test_corrections_opened_from_a_project_are_measured(make_napari_viewer_proxy, wait):
    from napari_dinocell.widgets.measure_panel import MeasurePanel  # noqa: PLC0415
    from napari_dinocell.widgets.project_files import Opened, add_layers  # noqa: PLC0415

    viewer = make_napari_viewer_proxy()
    corrected = np.zeros((160, 200), np.uint16)
    corrected[5:15, 5:25], corrected[40:44, 40:44], corrected[80:90, 90:91] = 2, 1, 7
    add_layers(viewer, Opened("plate 3", discs(), (0.5, 0.5), corrected, [], None, None))
    panel = MeasurePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Measure cells")
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None)
    assert panel.table["label"].tolist() == [2, 7]
    assert panel.table["area"].tolist() == [200, 10]
    assert panel.table["area_um2"].tolist() == [50, 2.5]


def test_a_file_that_cannot_be_written_is_one_line(corrected, wait, tmp_path):
    _, panel = corrected
    blocker = tmp_path / "file"
    blocker.write_text("")
    panel.results.export("labels", blocker / "cells.ome.tif")
    wait(lambda: "⚠" in panel.status.text())
    assert "\n" not in panel.status.text()
