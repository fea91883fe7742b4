"""The diameter of the cells: typed in px or µm, or drawn across and around cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Shapes
from synthetic import discs, n_discs

from napari_dinocell.widgets.cell_size import AS_IS, ESTIMATE, GIVEN
from napari_dinocell.widgets.drawing import drawn_diameter, drawn_region

pytestmark = pytest.mark.qt

MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "axis_labels": ("y", "x")}


def draw(sketch, points, kind="line"):
    sketch.layer.add([np.array(points, float)], shape_type=kind)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(1, 500), st.floats(0, np.pi), st.floats(-100, 100), st.sampled_from([0.1, 1.0, 7.0])
)
def test_a_line_is_as_long_as_the_cell_is_wide(length, angle, at, scale):
    end = at + length * np.sin(angle), at + length * np.cos(angle)
    drawn = drawn_diameter(np.array([(at, at), end]), "line", (scale, scale))
    assert drawn == pytest.approx(length)


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 200), st.floats(0.2, 5))
def test_an_outline_counts_as_the_disc_of_its_area(radius, stretch):
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    oval = np.stack([radius * stretch * np.sin(angles), radius / stretch * np.cos(angles)], 1)
    assert drawn_diameter(oval, "polygon") == pytest.approx(2 * radius, rel=1e-3)
    a, b = radius * stretch, radius / stretch
    box = np.array([(-a, -b), (-a, b), (a, b), (a, -b)])
    assert drawn_diameter(box, "ellipse") == pytest.approx(2 * radius)
    # In the space of the pixels' area it is a circle whichever way the pixels are stretched.
    assert drawn_diameter(box, "ellipse", (3, 0.5)) == pytest.approx(2 * radius)


def test_a_region_holds_every_pixel_that_the_rectangle_touches():
    corners = np.array([(9.6, 20.0), (9.6, 29.4), (31.2, 29.4), (31.2, 20.0)])
    assert drawn_region(corners, (100, 100)) == (slice(10, 32), slice(20, 30))
    assert drawn_region(corners - 15, (100, 100)) == (slice(0, 17), slice(5, 15))
    with pytest.raises(ValueError, match="beside the image"):
        drawn_region(corners + 100, (100, 100))


def test_the_time_told_counts_the_look_at_the_cells(make_panel, wait):
    from napari_dinocell.core.diameter import _FIRST_LOOKS  # noqa: PLC0415

    _, panel = make_panel(discs())
    wait(panel.button.isEnabled)
    ready, part = panel.models.ready, panel.form.part()
    more = ready.seconds(part, "auto") - ready.seconds(part, None)
    # And one at the size to which the better one points.
    assert more == pytest.approx((len(_FIRST_LOOKS) + 1) * ready.seconds_per_tile)
    assert "depending on the cells' size" in panel.status.text()
    panel.form.cell_size.how.value = AS_IS
    wait(lambda: "depending" not in panel.status.text())


def test_a_drawn_line_fills_in_pixels_and_microns(make_panel, wait):
    viewer, panel = make_panel(discs(), **MICRONS)
    size = panel.form.cell_size
    size.how.value = GIVEN
    size.line.click()
    layer = viewer.layers["cell size"]
    assert isinstance(layer, Shapes)
    assert str(layer.mode) == "add_line"
    assert viewer.layers.selection.active == layer
    draw(size._sketch, [(20, 10), (20, 34)])
    wait(lambda: size.pixels.value == 24)
    assert size.microns.value == 12
    # Several cells count by their median, and one that is moved counts as it is then.
    draw(size._sketch, [(60, 10), (60, 50)])
    draw(size._sketch, [(60, 10), (90, 10)])
    wait(lambda: size.pixels.value == 30)
    layer.data = [np.array([(0, 0), (0, 18)])]
    wait(lambda: size.pixels.value == 18)
    assert panel.form.diameter_of(panel.form.part()) == 18


def test_a_drawn_circle_fills_in_its_diameter(make_panel, wait):
    _, panel = make_panel(discs())
    size = panel.form.cell_size
    size.how.value = GIVEN
    size.circle.click()
    draw(size._sketch, [(10, 10), (10, 36), (36, 36), (36, 10)], "ellipse")
    wait(lambda: size.pixels.value == 26)
    assert not size.microns.native.isVisibleTo(panel)


def test_microns_that_are_typed_become_pixels(make_panel):
    viewer, panel = make_panel(discs(), **MICRONS)
    size = panel.form.cell_size
    size.how.value = GIVEN
    size.microns.value = 20
    assert size.pixels.value == 40
    # The diameter in px stays when the image changes, and has another length in µm there.
    viewer.add_image(discs(), name="coarse", scale=(2, 2), units=("um", "um"))
    panel.form.choose_layer(viewer.layers["coarse"])
    assert (size.pixels.value, size.microns.value) == (40, 80)


def test_drawing_ends_with_the_button_the_choice_the_layer_or_the_run(make_panel, wait):
    viewer, panel = make_panel(discs())
    size = panel.form.cell_size
    ends = {
        "button": size.line.click,
        "choice": lambda: setattr(size.how, "value", AS_IS),
        "layer": lambda: viewer.layers.remove("cell size"),
        "run": panel.button.click,
    }
    for end in ends.values():
        size.how.value = GIVEN
        size.line.click()
        assert "cell size" in viewer.layers
        end()
        assert "cell size" not in viewer.layers
        assert not size.line.isChecked()
    wait(lambda: panel.job is None)


def test_a_click_without_a_drag_measures_nothing(make_panel, qtbot):
    _, panel = make_panel(discs())
    size = panel.form.cell_size
    size.how.value = GIVEN
    size.line.click()
    with qtbot.waitSignal(size._sketch.drawn):
        draw(size._sketch, [(10, 10), (10, 10.2)])
    assert size.pixels.value == 30


def test_only_what_is_needed_is_asked(make_panel):
    _, panel = make_panel(discs())
    size = panel.form.cell_size
    rows = [row for _, row in size.rows[1:]]
    for how, needed in ((AS_IS, False), (ESTIMATE, False), (GIVEN, True)):
        size.how.value = how
        assert [row.isVisibleTo(panel) for row in rows] == [needed] * 2


def test_the_given_diameter_reaches_the_network(make_panel, wait, engine):
    _, panel = make_panel(discs((160, 240), pitch=80, radius=26))
    panel.form.cell_size.how.value = GIVEN
    panel.form.cell_size.pixels.value = 48
    wait(panel.button.isEnabled)
    panel.button.click()
    wait(lambda: panel.job is None)
    scaling = panel.preview.prediction.scaling
    assert (scaling.scale, scaling.diameter, scaling.reason) == (0.5, 48.0, "diameter")
    assert len(np.unique(panel.preview.layer.data)) - 1 == n_discs((160, 240), pitch=80)
