"""The panel fits: what is asked shows when it is needed, nothing is cut, and it can be read out."""

import numpy as np
import pytest
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox
from synthetic import discs

from napari_dinocell.widgets.cell_size import GIVEN
from napari_dinocell.widgets.column import Column
from napari_dinocell.widgets.form import RANGE

pytestmark = pytest.mark.qt

STACK = {"scale": (2, 0.5, 0.5), "units": ("um",) * 3}
MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "axis_labels": ("y", "x")}


def test_the_panel_grows_with_the_work_and_is_never_cut(make_panel):
    _, panel = make_panel(discs(), **MICRONS)
    column = panel.findChild(Column)
    # Before the first run there is nothing to slide or to correct.
    assert not panel.results.isVisibleTo(panel)
    narrow = column.minimumSizeHint().width()
    panel.form.cell_size.how.value = GIVEN
    content = column.widget()
    content.layout().activate()
    assert column.minimumSizeHint().width() >= content.minimumSizeHint().width() >= 100
    assert column.minimumSizeHint().width() >= narrow
    # A low window scrolls: the panel asks for no more than a few lines.
    assert column.minimumSizeHint().height() < content.minimumSizeHint().height()
    assert panel.minimumSizeHint().height() < 300
    column.resize(column.minimumSizeHint())
    assert content.minimumSizeHint().width() <= column.viewport().width()


def test_a_dock_of_300_px_is_wide_enough_whatever_the_name_of_the_file(segmented):
    viewer, panel = segmented(np.stack([discs()] * 2), axis_labels=("z", "y", "x"), **STACK)
    image = viewer.layers["image"]
    image.name = "2026-11-28 plate 3 well B04 field 12 DAPI after 24 h.ome.tif"
    viewer.add_image(image.data, name="second", axis_labels=("z", "y", "x"), **STACK)
    panel.form.choose_layer(image)
    panel.form.cell_size.how.value = GIVEN
    panel.form.planes.value = RANGE
    assert panel.form.combine.box.native.isVisibleTo(panel)
    panel.findChild(Column).widget().layout().activate()
    assert "image" not in panel.form.image.native.currentText()
    assert panel.minimumSizeHint().width() <= 300
    assert "cells in this plane" in panel.results.figures.text()


def test_results_show_after_a_run_and_every_control_has_a_name(segmented):
    _, panel = segmented(discs(), **MICRONS)
    assert panel.results.isVisibleTo(panel)
    for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider, QAbstractButton):
        for control in panel.findChildren(kind):
            if not control.isVisibleTo(panel) or control.objectName().startswith("qt_"):
                continue
            parent = control.parentWidget()
            text = getattr(control, "text", str)()
            named = control.accessibleName() or text or parent.accessibleName()
            # Parts of a labeled slider are named by the slider.
            named = named or parent.parentWidget().accessibleName()
            assert named or "Scroll" in type(control).__name__, control


def contrast(first, second):
    """Ratio of two colors by the rule of the WCAG: 1 for the same, 21 for black and white."""

    def luminance(color):
        parts = np.array([color.redF(), color.greenF(), color.blueF()])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_what_the_panel_draws_and_writes_stands_out_in_each_theme(make_panel, wait, theme):
    viewer, panel = make_panel(discs())
    viewer.theme = theme
    panel.results.show()
    histogram = panel.results.sliders.histogram
    histogram.show_areas(np.geomspace(5, 9000, 3000), 0)
    background = panel.grab().toImage().pixelColor(1, 1)
    ink = panel.status.palette().color(QPalette.ColorRole.WindowText)
    assert contrast(ink, background) >= 4.5
    bars = histogram.grab().toImage()
    middle = bars.width() // 2
    drawn = [bars.pixelColor(x, bars.height() - 4) for x in range(middle - 9, middle + 9)]
    # Graphics need 3 (WCAG 2.1, 1.4.11).
    assert max(contrast(color, bars.pixelColor(middle, 0)) for color in drawn) >= 3
