"""The brush for one cell: over deleted cells, never over verified ones, one undo step per stroke."""

from types import SimpleNamespace

import numpy as np
import pytest
from synthetic import discs

from napari_dinocell.widgets.editing import ACCEPT, DELETE, DRAW, REDRAW

pytestmark = pytest.mark.qt

CENTERS = [(20.0, 20.0), (20.0, 60.0)]


@pytest.fixture
def cells(segmented, wait):
    viewer, panel = segmented(discs())
    wait(lambda: panel.results.tools.isEnabled())
    return viewer, panel, viewer.layers["image cells"]


def use(panel, tool, *points):
    """Take a tool, draw a line with it, put it away."""
    panel.results.tools.take(tool)
    panel.results.tools.apply(list(points))
    panel.results.tools.put_away()


def stroke(layer, *points):
    """Paint as a drag does it: the strokes of one press are one step of the history."""
    with layer.block_history():
        for point in points:
            layer.paint(point, layer.selected_label)


def test_a_new_cell_may_lie_where_one_was_deleted_but_never_on_a_verified_one(cells, wait):
    viewer, panel, layer = cells
    use(panel, ACCEPT, CENTERS[1])
    use(panel, DELETE, CENTERS[0])
    corrected = viewer.layers["image corrected"]
    kept = corrected.data == corrected.data[20, 60]
    panel.results.tools.take(DRAW)
    cell = corrected.selected_label
    corrected.brush_size = 20
    stroke(corrected, *((20, x) for x in range(20, 60, 5)))
    wait(lambda: np.array_equal(corrected.data == corrected.data[20, 60], kept))
    assert corrected.data[20, 20] == cell
    assert corrected.data[20, 40] == cell
    assert layer.data[20, 20] == 0
    before = corrected.data.copy()
    corrected.undo()
    assert not (corrected.data == cell).any()
    corrected.redo()
    np.testing.assert_array_equal(corrected.data, before)
    panel.results.tools.put_away()
    assert str(corrected.mode) == "pan_zoom"
    assert corrected.preserve_labels


def test_a_cell_is_redrawn_by_painting_and_erasing(cells, wait):
    viewer, panel, layer = cells
    panel.results.tools.take(REDRAW)
    panel.results.tools.apply([(0.0, 0.0)])
    assert "No cell" in panel.status.text()
    mask = layer.data == layer.data[20, 20]
    panel.results.tools.apply([CENTERS[0]])
    corrected = viewer.layers["image corrected"]
    cell = corrected.selected_label
    np.testing.assert_array_equal(corrected.data == cell, mask)
    assert str(corrected.mode) == "paint"
    corrected.brush_size = 4
    stroke(corrected, (20, 40))
    corrected.brush_size = 16
    corrected.paint((14, 20), 0)
    wait(lambda: corrected.data[14, 20] == 1)
    assert corrected.data[20, 40] == cell
    # More than half of it may be erased: what the thresholds found there does not come back.
    corrected.paint((20, 20), 0)
    wait(lambda: corrected.data[20, 20] == 1)
    panel.results.sliders.fill.setValue(0.3)
    wait(lambda: panel.preview.fill == pytest.approx(0.3))
    assert not layer.data[mask].any()
    for _ in range(4):
        corrected.undo()
    wait(lambda: layer.data[20, 20] > 0)
    assert not corrected.data.any()


def test_a_press_on_another_plane_protects_the_cells_there(segmented, wait):
    viewer, panel = segmented(np.stack([discs()] * 2), axis_labels=("z", "y", "x"))
    viewer.dims.set_current_step(0, 0)
    wait(lambda: panel.preview.plane == 0 and panel.preview.is_following)
    use(panel, ACCEPT, (0, *CENTERS[1]))
    viewer.dims.set_current_step(0, 1)
    wait(lambda: panel.preview.plane == 1 and panel.preview.is_following)
    panel.results.tools.take(DRAW)
    viewer.dims.set_current_step(0, 0)
    wait(lambda: panel.preview.plane == 0 and panel.preview.is_following)
    corrected = viewer.layers["image corrected"]
    kept = corrected.data[0].copy()
    event = SimpleNamespace(type="mouse_press", position=(0.0, *CENTERS[1]), modifiers=())
    for press in viewer.mouse_drag_callbacks:
        next(press(viewer, event), None)
    cell = corrected.selected_label
    stroke(corrected, (0, 20, 40), (0, 20, 60))
    wait(lambda: corrected.data[0, 20, 60] == kept[20, 60])
    assert corrected.data[0, 20, 40] == cell
    assert not corrected.data[1].any()
