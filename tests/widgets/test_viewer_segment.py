"""The main flow in a real viewer: segment, slide, cancel."""

import socket

import numpy as np
import pytest
from napari.layers import Labels
from synthetic import discs, n_discs

pytestmark = pytest.mark.qt


def test_segment_makes_a_labels_layer_with_the_cells_of_the_image(segmented):
    viewer, panel = segmented(discs())
    layer = viewer.layers["image cells"]
    assert isinstance(layer, Labels)
    assert layer.data.dtype == np.uint16
    assert len(np.unique(layer.data)) - 1 == n_discs()
    assert f"{n_discs()} cells" in panel.results.figures.text()
    assert "Done in" in panel.status.text()


def test_the_labels_are_those_of_the_command_line_path(segmented, engine):
    image = discs()
    viewer, _ = segmented(image)
    expected = engine.extra["stub"].predict(image).labels()
    np.testing.assert_array_equal(viewer.layers["image cells"].data, expected)


def test_moving_a_slider_cuts_into_the_same_array(segmented, wait):
    viewer, panel = segmented(discs())
    layer = viewer.layers["image cells"]
    array, before = layer.data, np.count_nonzero(layer.data)
    panel.results.sliders.fill.setValue(0.1)
    wait(lambda: np.count_nonzero(layer.data) > before)
    assert layer.data is array or np.shares_memory(layer.data, array)
    expected = panel.preview.prediction.labels(*panel.results.sliders.values)
    np.testing.assert_array_equal(layer.data, expected)


def test_minimum_area_and_reset_change_the_count(segmented, wait):
    _, panel = segmented(discs())
    panel.results.sliders.min_area.setRange(0, 5000)
    panel.results.sliders.min_area.setValue(4000)
    wait(lambda: "No cells" in panel.results.figures.text())
    panel.results.sliders.reset.click()
    wait(lambda: f"{n_discs()} cells" in panel.results.figures.text())
    assert panel.results.sliders.values[0] == pytest.approx(panel.preview.defaults.peak)


def test_cancel_leaves_no_layer_and_allows_another_run(make_panel, wait, engine):
    viewer, panel = make_panel(discs((1600, 1600)))
    wait(panel.button.isEnabled)
    panel.button.click()
    assert panel.button.text() == "Cancel"
    panel.button.click()
    wait(lambda: panel.job is None)
    assert "Cancelled" in panel.status.text()
    assert [layer.name for layer in viewer.layers] == ["image"]
    assert panel.button.isEnabled()
    assert panel.button.text() == "Segment"


def test_an_empty_viewer_says_what_to_do(make_panel):
    _, panel = make_panel()
    assert "Open an image" in panel.status.text()
    assert not panel.button.isEnabled()


def test_nothing_is_asked_of_the_network(segmented, wait, monkeypatch, tmp_path):
    asked = []
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda *given: asked.append(given))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: asked.append(given))
    _, panel = segmented(discs())
    panel.results.sliders.fill.setValue(0.1)
    wait(lambda: panel.preview.fill == pytest.approx(0.1))
    panel.results.export("labels", tmp_path / "cells.ome.tif")
    wait((tmp_path / "cells.ome.tif").exists)
    assert asked == []
