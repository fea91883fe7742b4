"""Corrections: every one undoable, none ever lost to a slider."""

import numpy as np
import pytest
from napari.utils.shortcuts import default_shortcuts
from synthetic import discs, n_discs

from napari_dinocell.widgets.catching_up import CatchUp
from napari_dinocell.widgets.editing import ACCEPT, DELETE, DRAW, KEYS, MERGE, REDRAW, SPLIT
from napari_dinocell.widgets.jobs import Ticket

pytestmark = pytest.mark.qt

CENTERS = [(20.0, 20.0), (20.0, 60.0), (60.0, 20.0)]


def ids(layer):
    return set(np.unique(layer.data)) - {0}


def use(panel, tool, *points):
    """Take a tool, draw a line with it, put it away."""
    panel.results.tools.take(tool)
    panel.results.tools.apply(list(points))
    panel.results.tools.put_away()


@pytest.fixture
def cells(segmented, wait):
    viewer, panel = segmented(discs())
    wait(lambda: panel.results.tools.isEnabled())
    return viewer, panel, viewer.layers["image cells"]


def test_a_deleted_cell_stays_away_when_a_slider_moves_and_undo_brings_it_back(cells, wait):
    viewer, panel, layer = cells
    use(panel, DELETE, CENTERS[0])
    assert layer.data[20, 20] == 0
    assert f"{n_discs() - 1} cells" in panel.results.figures.text()
    panel.results.sliders.fill.setValue(0.1)
    wait(lambda: panel.preview.fill == pytest.approx(0.1))
    assert layer.data[20, 20] == 0
    assert len(ids(layer)) == n_discs() - 1
    viewer.layers["image corrected"].undo()
    wait(lambda: layer.data[20, 20] > 0)
    assert len(ids(layer)) == n_discs()


def test_an_accepted_cell_keeps_its_pixels_when_a_slider_moves(cells, wait):
    viewer, panel, layer = cells
    mask = layer.data == layer.data[20, 60]
    use(panel, ACCEPT, CENTERS[1])
    corrected = viewer.layers["image corrected"]
    np.testing.assert_array_equal(corrected.data > 1, mask)
    panel.results.sliders.peak.setValue(0.9)
    panel.results.sliders.fill.setValue(0.05)
    wait(lambda: panel.preview.fill == pytest.approx(0.05))
    np.testing.assert_array_equal(corrected.data > 1, mask)
    assert not layer.data[mask].any()


def test_merge_and_split_write_verified_cells(cells, wait):
    viewer, panel, layer = cells
    panel.results.sliders.peak.setValue(0.5)
    panel.results.sliders.fill.setValue(0.02)
    wait(lambda: panel.preview.fill == pytest.approx(0.02))
    use(panel, SPLIT, (20.0, 2.0), (20.0, 38.0))
    corrected = viewer.layers["image corrected"]
    assert len(ids(corrected)) == 2, panel.status.text()
    use(panel, MERGE, (15.0, 20.0), (25.0, 20.0))
    assert len(ids(corrected)) == 1, panel.status.text()
    corrected.undo()
    assert len(ids(corrected)) == 2
    corrected.undo()
    assert not ids(corrected)
    wait(lambda: layer.data[20, 20] > 0)


def test_painting_into_the_preview_is_moved_to_the_corrected_layer(cells, wait):
    viewer, _panel, layer = cells
    layer.mode = "paint"
    layer.selected_label = 900
    layer.brush_size = 5
    layer.paint((1, 100), 900)
    wait(lambda: "image corrected" in viewer.layers)
    corrected = viewer.layers["image corrected"]
    wait(lambda: corrected.data[1, 100] > 1)
    assert layer.data[1, 100] == 0
    assert viewer.layers.selection.active == corrected
    assert str(corrected.mode) == "paint"
    corrected.undo()
    wait(lambda: not ids(corrected))


def test_a_second_run_makes_a_new_layer_and_leaves_the_corrected_one_alone(cells, wait):
    viewer, panel, _ = cells
    use(panel, ACCEPT, CENTERS[2])
    before = viewer.layers["image corrected"].data.copy()
    panel.form.choose_layer(viewer.layers["image"])
    wait(panel.button.isEnabled)
    panel.button.click()
    wait(lambda: panel.job is None)
    assert len(viewer.layers) == 4
    np.testing.assert_array_equal(viewer.layers["image corrected"].data, before)


def test_deleting_the_corrected_layer_gives_the_cells_back_to_the_sliders(cells, wait):
    viewer, panel, layer = cells
    use(panel, DELETE, CENTERS[0])
    viewer.layers.remove("image corrected")
    wait(lambda: layer.data[20, 20] > 0)
    use(panel, DELETE, CENTERS[0])
    assert layer.data[20, 20] == 0


def test_the_table_follows_corrections_without_a_slider(cells, wait):
    viewer, panel, layer = cells

    def rows():
        return len(layer.features["area"].dropna()) if "area" in layer.features else -1

    wait(lambda: rows() == n_discs())
    gone = layer.data[20, 20]
    use(panel, DELETE, CENTERS[0])
    wait(lambda: rows() == n_discs() - 1)
    assert np.isnan(layer.features["area"][gone])
    viewer.layers["image corrected"].undo()
    wait(lambda: rows() == n_discs())


def test_planes_out_of_view_follow_corrections_too(segmented, wait):
    viewer, panel = segmented(np.stack([discs()] * 3), axis_labels=("t", "y", "x"))
    layer = viewer.layers["image cells"]
    viewer.dims.set_current_step(0, 0)
    wait(lambda: panel.preview.plane == 0 and panel.preview.is_following)
    whole = layer.data.copy()
    use(panel, DELETE, CENTERS[0])
    viewer.dims.set_current_step(0, 2)
    wait(lambda: panel.preview.plane == 2 and panel.preview.is_following)
    assert not layer.data[0, 20, 20]
    viewer.layers["image corrected"].undo()
    wait(lambda: layer.data[0, 20, 20])
    viewer.layers["image corrected"].redo()
    wait(lambda: not layer.data[0, 20, 20])
    viewer.layers.remove("image corrected")
    wait(lambda: layer.data[0, 20, 20])
    np.testing.assert_array_equal(layer.data, whole)


def test_a_plane_is_noted_with_the_corrections_that_it_gave_way_to(segmented, wait):
    viewer, panel = segmented(np.stack([discs()] * 2), axis_labels=("t", "y", "x"))
    viewer.dims.set_current_step(0, 0)
    wait(lambda: panel.preview.plane == 0 and panel.preview.is_following)
    use(panel, DELETE, CENTERS[0])
    corrected = viewer.layers["image corrected"]
    work = CatchUp(
        result=panel.preview.result,
        plane=1,
        stale=frozenset(),
        gave_way={},
        corrected=corrected.data,
        thresholds=panel.preview.values(),
        least=0.0,
    )
    steps = work.steps(Ticket())
    next(steps)
    assert next(steps) == ("behind", {0})
    corrected.undo()  # while the work is under way
    _, (plane, cut, gave_way) = next(steps)
    assert plane == 0
    assert cut.labels[20, 20] > 0
    assert gave_way is None


def test_deleting_the_result_puts_sliders_and_tools_away(cells, wait):
    viewer, panel, _ = cells
    panel.results.tools.take(DELETE)
    viewer.layers.remove("image cells")
    assert not panel.results.sliders.isEnabled()
    assert not panel.results.tools.isEnabled()
    assert panel.results.tools.tool == ""
    assert panel.results.tools._stroke not in viewer.mouse_drag_callbacks


def test_only_one_tool_is_in_hand_and_the_mouse_moves_the_picture_again_after_it(cells):
    _viewer, panel, layer = cells
    panel.results.tools.take(DELETE)
    panel.results.tools.take(SPLIT)
    assert [name for name, b in panel.results.tools.buttons.items() if b.isChecked()] == [SPLIT]
    assert not layer.mouse_pan
    panel.results.tools.take(SPLIT)
    assert layer.mouse_pan
    assert panel.results.tools.tool == ""


def test_a_new_cell_is_painted_with_an_id_of_its_own(cells):
    viewer, panel, _ = cells
    use(panel, ACCEPT, CENTERS[0])
    panel.results.tools.take(DRAW)
    corrected = viewer.layers["image corrected"]
    assert corrected.selected_label not in ids(corrected) | {0, 1}
    assert str(corrected.mode) == "paint"


def test_escape_puts_every_tool_away(cells):
    viewer, panel, _ = cells
    tools = panel.results.tools
    for tool in KEYS:
        tools.take(tool)
        corrected = viewer.layers["image corrected"]
        assert [name for name, b in tools.buttons.items() if b.isChecked()] == [tool]
        escape = next(f for key, f in corrected.keymap.items() if "Esc" in str(key))
        escape(corrected)
        assert tools.tool == ""
        assert not any(button.isChecked() for button in tools.buttons.values())
        assert str(corrected.mode) == "pan_zoom"
        assert corrected.mouse_pan


def test_as_many_undos_as_corrections_bring_everything_back(cells, wait):
    viewer, panel, layer = cells
    panel.results.sliders.fill.setValue(0.02)
    wait(lambda: panel.preview.fill == pytest.approx(0.02))
    whole = layer.data.copy()
    use(panel, ACCEPT, CENTERS[1])
    use(panel, SPLIT, (20.0, 2.0), (20.0, 38.0))
    use(panel, MERGE, (15.0, 20.0), (25.0, 20.0))
    use(panel, DELETE, CENTERS[2])
    panel.results.tools.take(REDRAW)
    panel.results.tools.apply([(60.0, 60.0)])
    corrected = viewer.layers["image corrected"]
    corrected.paint((60, 80), corrected.selected_label)
    wait(lambda: corrected.data[60, 80] == corrected.data[60, 60])
    panel.results.tools.put_away()
    for _ in range(6):
        assert corrected.data.any()
        corrected.undo()
    assert not corrected.data.any()
    wait(lambda: np.array_equal(layer.data, whole))


def test_keys_collide_with_none_of_naparis():
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    assert not taken & set(KEYS.values())
    assert len(taken) > 40
