"""Every command of the manifest does what its place in the menus says, opened as napari does it."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QScrollBar,
)
from synthetic import discs

pytestmark = pytest.mark.qt

PATH = Path(__file__).resolve().parents[2] / "src" / "napari_dinocell" / "napari.yaml"
CONTRIBUTIONS = yaml.safe_load(PATH.read_text(encoding="utf-8"))["contributions"]
NAME = "napari-dinocell"


@pytest.fixture
def viewer(npe2pm, make_napari_viewer_proxy):
    """A viewer of a napari that knows this plugin alone."""
    with npe2pm.tmp_plugin(manifest=PATH):
        yield make_napari_viewer_proxy()


def controls(widget):
    """Of a panel: what a user can operate, parts of napari's and Qt's own widgets aside."""
    for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider, QAbstractButton, QLineEdit):
        for control in widget.findChildren(kind):
            if not control.objectName().startswith("qt_") and not isinstance(control, QScrollBar):
                yield control


@pytest.mark.parametrize("entry", CONTRIBUTIONS["widgets"], ids=lambda e: e["command"])
def test_a_widget_opens_is_narrow_enough_for_a_dock_and_can_be_read_out(viewer, entry):
    dock, widget = viewer.window.add_plugin_dock_widget(NAME, entry["display_name"])
    expected = next(c for c in CONTRIBUTIONS["commands"] if c["id"] == entry["command"])
    assert type(widget).__name__ == expected["python_name"].partition(":")[2]
    assert not dock.isHidden()
    assert widget.minimumSizeHint().width() <= 300
    # Each control has a name that can be read out, and is reached without a mouse.
    for control in controls(widget):
        text = control.text() if isinstance(control, QAbstractButton) else ""
        if isinstance(control, QAbstractButton) and control.isHidden():
            continue
        parents = [control, control.parentWidget(), control.parentWidget().parentWidget()]
        assert text or any(parent.accessibleName() for parent in parents), control
        focus = [parent.focusPolicy() for parent in parents]
        assert any(policy & Qt.FocusPolicy.TabFocus for policy in focus), control


@pytest.mark.parametrize(
    ("menu", "command"),
    [(m, e["command"]) for m, entries in CONTRIBUTIONS["menus"].items() for e in entries],
)
def test_the_menus_of_napari_list_our_commands_and_open_them(viewer, menu, command):
    from napari._app_model import get_app_model  # noqa: PLC0415

    app = get_app_model()
    entries = app.menus.get_menu(menu)
    assert command in [item.command.id for item in entries if hasattr(item, "command")]
    viewer.add_image(np.zeros((9, 9)))
    before = len(viewer.window.dock_widgets), len(viewer.layers)
    app.commands.execute_command(command).result()
    assert (len(viewer.window.dock_widgets), len(viewer.layers)) > before


@pytest.mark.parametrize("entry", CONTRIBUTIONS["sample_data"], ids=lambda e: e["key"])
def test_a_sample_is_an_image(viewer, entry):
    (layer,) = viewer.open_sample(NAME, entry["key"])
    assert isinstance(layer, Image)
    assert layer.name == entry["display_name"]
    assert min(layer.data.shape[:2]) >= 200


def paint(viewer):
    """As the menu does it: napari hands over the viewer."""
    from napari._app_model import get_app_model  # noqa: PLC0415

    get_app_model().commands.execute_command(f"{NAME}.paint_cells").result()
    return viewer.layers[-1]


def test_painted_cells_lie_on_the_chosen_image(viewer):
    image = viewer.add_image(
        discs(), name="cells", scale=(0.5, 0.25), translate=(3, 4), rotate=20, units=("µm", "µm")
    )
    viewer.add_image(np.zeros((9, 9)), name="other")
    viewer.layers.selection.active = image
    layer = paint(viewer)
    assert isinstance(layer, Labels)
    assert str(layer.mode) == "paint"
    assert layer.name == "cells painted cells"
    assert layer.data.shape == image.data.shape
    assert not layer.data.any()
    np.testing.assert_allclose(layer.data_to_world((5, 7)), image.data_to_world((5, 7)))
    assert layer.units == image.units
    layer.paint((10, 10), 1)
    layer.undo()
    assert not layer.data.any()


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((40, 50, 3), {"rgb": True}, (40, 50)),
        ((2, 40, 50), {"axis_labels": ("c", "y", "x")}, (40, 50)),
        ((3, 40, 50), {"axis_labels": ("z", "y", "x")}, (3, 40, 50)),
    ],
)
def test_painted_cells_have_no_channels_and_one_plane_is_painted(viewer, shape, options, expected):
    viewer.add_image(np.zeros(shape, np.uint8), **options)
    layer = paint(viewer)
    assert layer.data.shape == expected
    layer.paint((0, 20, 20)[-len(expected) :], 1)
    assert layer.data.any()
    if len(expected) == 3:
        assert not layer.data[1:].any()


def test_without_an_image_there_is_nothing_to_paint_on(viewer, capsys):
    from napari_dinocell.widgets.annotate import paint_cells  # noqa: PLC0415

    paint_cells(viewer)
    assert "Open an image first" in capsys.readouterr().out
    assert len(viewer.layers) == 0


@pytest.fixture
def measured(viewer, wait):
    def run(labels, image=None, **options):
        from napari_dinocell.widgets.measure_panel import MeasurePanel  # noqa: PLC0415

        if image is not None:
            viewer.add_image(image, name="image", rgb=image.ndim > labels.ndim)
        viewer.add_labels(labels, name="cells", **options)
        panel = MeasurePanel(viewer)
        viewer.window.add_dock_widget(panel, name="Measure cells")
        panel.runner.button.click()
        wait(lambda: panel.runner.job is None)
        return viewer.layers["cells"], panel

    return run


def test_measured_cells_stand_in_naparis_table_at_the_row_of_their_id(measured, tmp_path, wait):
    image = discs()
    labels = np.zeros(image.shape, int)
    labels[10:20, 30:50] = 7
    labels[60:65, 60:70] = 3
    layer, panel = measured(labels, image, scale=(0.5, 2), units=("µm", "µm"))
    assert "2 cells measured" in panel.runner.status.text()
    row = layer.features.iloc[7]
    assert row["label"] == 7
    assert row["area"] == 200
    assert row["area_um2"] == 200
    assert row["intensity_mean"] == pytest.approx(image[10:20, 30:50].mean())
    assert layer.features["area"].notna().sum() == 2
    panel.save_table(tmp_path / "cells.csv")
    wait(lambda: "Wrote cells.csv" in panel.runner.status.text())
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["label", "3", "7"]


@pytest.mark.parametrize(
    ("place", "is_told"),
    [
        ({"rotate": 30, "scale": (0.5, 2)}, False),
        ({"affine": [[0, -1, 4], [1, 0, 5], [0, 0, 1]]}, False),
        ({"shear": [0.2]}, True),
        ({"affine": [[2, 0, 0], [0, 2, 0], [0, 0, 1]]}, True),
    ],
)
def test_31_areas_that_the_scale_alone_does_not_tell_are_told(measured, place, is_told):
    labels = np.zeros((40, 50), int)
    labels[:5, :5] = 1
    _, panel = measured(labels, **place)
    assert panel.table["area"].tolist() == [25]
    assert ("sheared" in panel.runner.status.text()) == is_told


@pytest.mark.parametrize(
    ("axis", "column", "told"), [("z", "z", "plane by plane"), ("t", "frame", "frame by frame")]
)
def test_cells_of_a_stack_are_measured_plane_by_plane(measured, axis, column, told):
    labels = np.zeros((3, 40, 50), int)
    labels[0, :5, :5] = 4
    labels[2, :6, :6] = 4
    layer, panel = measured(labels, axis_labels=(axis, "y", "x"))
    assert panel.table[column].tolist() == [0, 2]
    assert panel.table["area"].tolist() == [25, 36]
    assert told in panel.runner.status.text()
    assert layer.features.empty


def test_32_an_object_in_space_has_its_volume_by_the_depth_of_a_plane(measured, wait):
    labels = np.zeros((4, 40, 50), int)
    labels[1:3, :5, :6] = 3
    layer, panel = measured(
        labels, axis_labels=("z", "y", "x"), scale=(5, 0.5, 0.5), units=("µm", "µm", "µm")
    )
    assert len(panel.table["label"]) == 2
    panel.objects.setChecked(True)
    panel.runner.button.click()
    wait(lambda: "1 3-D object measured" in panel.runner.status.text())
    row = layer.features.iloc[3]
    assert row["volume"] == 60
    assert row["volume_um3"] == 60 * 5 * 0.25
    assert row["centroid-0_um"] == 7.5


def test_axes_are_asked_for_where_the_layer_does_not_tell(measured):
    _, panel = measured(np.ones((3, 4, 5), int))
    assert "choose the axes" in panel.runner.status.text()
    assert panel.table is None


def test_a_color_image_gives_a_mean_for_each_color(measured):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (20, 30, 3), np.uint8)
    _, panel = measured(np.ones((20, 30), int), image)
    for color in range(3):
        assert panel.table[f"intensity_mean-{color}"][0] == pytest.approx(image[..., color].mean())
