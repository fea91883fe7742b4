"""Confidence filters and colors the cells, live, and never touches what a person corrected."""

import csv
import json

import numpy as np
import pytest
from stub_networks import Stub, stub_card
from synthetic import discs, n_discs

from napari_dinocell.core.confidence import confidence
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.widgets.editing import ACCEPT
from napari_dinocell.widgets.engine import Engine
from napari_dinocell.widgets.screening import confidence_colors

pytestmark = pytest.mark.qt

FORMULA = {"intercept": -20.0, "height": 24.0, "prominence": 1.0, "mean": 0.0}


@pytest.fixture
def engine():
    cards = (
        stub_card(confidence=FORMULA, peak=0.3, fill=0.1),
        stub_card(confidence={}, name="silent"),
    )
    return Engine(extra={card.name: Segmenter(Stub(), card, device="cpu") for card in cards})


def graded():
    """Cells that are brighter, thus surer, from left to right; the last column at full height."""
    _, x = np.mgrid[:160, :200]
    return (discs() * (0.6 + 0.4 * (x // 40) / 4)).astype(np.float32)


def ids(layer):
    return np.unique(layer.data[layer.data > 0])


@pytest.fixture
def cells(segmented, wait):
    viewer, panel = segmented(graded())
    wait(lambda: "confidence" in viewer.layers["image cells"].features)
    return viewer, panel, viewer.layers["image cells"]


def chances(panel):
    cut = panel.preview.prediction.cut(0, **panel.preview.values())
    return dict(zip(cut.ids.tolist(), confidence(cut, FORMULA), strict=True))


def test_unsure_cells_go_while_the_slider_moves_and_come_back(cells, wait):
    _, panel, layer = cells
    known = chances(panel)
    least = float(np.median(list(known.values())))
    assert len(ids(layer)) == n_discs() == len(known)
    panel.results.sliders.confidence.setValue(least)
    least = panel.results.sliders.confidence.value()
    expected = sorted(i for i, chance in known.items() if chance >= least)
    assert 0 < len(expected) < n_discs()
    wait(lambda: len(ids(layer)) < n_discs())
    np.testing.assert_array_equal(ids(layer), expected)
    assert f"{len(expected)} cells" in panel.results.figures.text()
    assert panel.results.sliders.histogram.counts.sum() == len(expected)
    wait(lambda: layer.features["confidence"].notna().sum() == len(expected))
    assert layer.features["confidence"].min() >= least
    panel.results.sliders.reset.click()
    assert panel.results.sliders.confidence.value() == 0
    wait(lambda: len(ids(layer)) == n_discs())


def test_the_table_holds_the_confidence_of_every_cell(cells):
    _, panel, layer = cells
    for cell, chance in chances(panel).items():
        assert layer.features["confidence"][cell] == pytest.approx(chance)


def test_files_tell_the_confidence_of_each_cell_and_which_are_verified(cells, wait, tmp_path):
    _, panel, _ = cells
    panel.results.tools.take(ACCEPT)
    panel.results.tools.apply([(20.0, 20.0)])
    panel.results.tools.put_away()
    known = chances(panel)
    panel.results.sliders.confidence.setValue(0.5)
    wait(lambda: panel.preview.min_confidence == pytest.approx(0.5))
    for kind, name in (("table", "a.csv"), ("run", "a.json")):
        panel.results.export(kind, tmp_path / name)
        wait((tmp_path / name).exists)
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    (verified,) = (row for row in rows if row["verified"] == "1")
    assert (float(verified["centroid-0"]), float(verified["centroid-1"])) == pytest.approx((20, 20))
    assert verified["confidence"] == ""
    found = sorted(float(row["confidence"]) for row in rows if row is not verified)
    expected = sorted(chance for chance in known.values() if chance >= 0.5)
    # The accepted cell is of the first column, the others of which are left out.
    assert 0 < len(expected) < len(known) - 1
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(rows) == len(found) + 1
    assert json.loads((tmp_path / "a.json").read_text())["min_confidence"] == pytest.approx(0.5)


def test_an_accepted_cell_stays_however_unsure_it_was(cells, wait):
    viewer, panel, layer = cells
    mask = layer.data == layer.data[20, 20]
    panel.results.tools.take(ACCEPT)
    panel.results.tools.apply([(20.0, 20.0)])
    panel.results.tools.put_away()
    panel.results.sliders.confidence.setValue(1.0)
    wait(lambda: not layer.data.any())
    np.testing.assert_array_equal(viewer.layers["image corrected"].data > 1, mask)
    assert panel.results.figures.text().startswith("1 cell ")


def test_colors_tell_the_confidence_and_follow_the_sliders(cells, wait):
    _, panel, layer = cells
    before = layer.colormap
    panel.results.sliders.color.setChecked(True)
    known = chances(panel)
    order = sorted(known, key=known.get)
    colors = layer.colormap.map(np.array(order))
    # From orange to blue, each cell in its own tone.
    assert np.all(np.diff(colors[:, 2]) >= 0)
    assert np.all(np.diff(colors[:, 0]) <= 0)
    assert colors[-1, 2] - colors[0, 2] > 0.2
    np.testing.assert_array_equal(layer.colormap.map(0), 0)
    panel.results.sliders.fill.setValue(0.02)
    panel.results.sliders.peak.setValue(0.9)
    wait(lambda: panel.preview.peak == pytest.approx(0.9))
    left = chances(panel)
    expected = confidence_colors(panel.preview._shown).map(np.array(list(left)))
    np.testing.assert_allclose(layer.colormap.map(np.array(list(left))), expected)
    panel.results.sliders.color.setChecked(False)
    assert layer.colormap == before


def test_a_model_without_a_formula_shows_neither_slider_nor_colors(cells, wait):
    viewer, panel, _ = cells
    sliders = panel.results.sliders
    assert sliders.confidence.isVisibleTo(sliders)
    assert sliders.color.isVisibleTo(sliders)
    panel.form.choose_layer(viewer.layers["image"])
    panel.form.model.value = "silent"
    wait(panel.button.isEnabled)
    panel.button.click()
    wait(lambda: panel.job is None)
    assert panel.preview.prediction.model_card.name == "silent"
    assert not sliders.confidence.isVisibleTo(sliders)
    assert not sliders.color.isVisibleTo(sliders)
    layer = panel.preview.layer
    wait(lambda: "area" in layer.features)
    assert len(ids(layer)) > 0
    assert "confidence" not in layer.features
