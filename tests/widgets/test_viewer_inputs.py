"""Every kind of layer: where its labels belong, and what is asked where nothing may be guessed."""

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels
from synthetic import discs, n_discs

from napari_dinocell.widgets.form import THIS_PLANE
from napari_dinocell.widgets.layers import axes_of, axes_options, layer_part
from napari_dinocell.widgets.measure_panel import MeasurePanel
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.preview import METADATA_KEY
from napari_dinocell.widgets.region import VIEW

pytestmark = pytest.mark.qt

PLANE = discs()


def corners(shape):
    return [(0,) * len(shape), tuple(n - 1 for n in shape), tuple(n / 3 for n in shape)]


def run(panel, wait):
    wait(panel.button.isEnabled)
    panel.button.click()
    wait(lambda: panel.job is None)
    assert panel.preview is not None, panel.status.text()
    return panel.preview.layer


PLACES = {
    "plain": {},
    "scale, units": {"scale": (0.5, 0.25), "units": ("µm", "µm"), "axis_labels": ("y", "x")},
    "negative scale": {"scale": (-1, 2), "translate": (5, -3)},
    "rotated, sheared": {"scale": (2, 3), "rotate": 30, "shear": [0.2], "translate": (10, 20)},
    "affine": {"affine": [[0.9, 0.2, 4], [-0.1, 1.1, 5], [0, 0, 1]], "scale": (2, 2)},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_part_lies_where_the_layer_shows_it(place):
    layer = Image(PLANE, **PLACES[place])
    part = layer_part(layer, "YX", region=(slice(20, 60), slice(30, 90)))
    labels = Labels(np.zeros(part.shape, np.uint16), **part.placement.options())
    for y, x in corners(part.shape):
        np.testing.assert_allclose(
            labels.data_to_world((y, x)), layer.data_to_world((y + 20, x + 30)), atol=1e-9
        )
    assert labels.units == layer.units
    assert labels.axis_labels == layer.axis_labels


@pytest.mark.parametrize("place", PLACES)
def test_a_level_of_a_pyramid_covers_the_same_ground(place):
    layer = Image([PLANE, PLANE[::2, ::2]], multiscale=True, **PLACES[place])
    part = layer_part(layer, "YX", level=1)
    labels = Labels(np.zeros(part.shape, np.uint16), **part.placement.options())
    # Edges of the image, half a pixel outside the outer centers, are the same in both.
    for edge in ((-0.5, -0.5), (PLANE.shape[0] - 0.5, PLANE.shape[1] - 0.5)):
        coarse = [(e + 0.5) / 2 - 0.5 for e in edge]
        np.testing.assert_allclose(
            labels.data_to_world(coarse), layer.data_to_world(edge), atol=1e-9
        )


def test_dropping_the_channel_axis_keeps_the_rest_in_place():
    layer = Image(
        np.zeros((2, 5, 9, 8)),
        scale=(1, 4, -2, 0.5),
        translate=(7, 1, 2, 3),
        units=("pixel", "um", "um", "um"),
        axis_labels=("c", "z", "y", "x"),
        rotate=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]],
    )
    placement = Placement.of(layer).keep([1, 2, 3])
    labels = Labels(np.zeros((5, 9, 8), np.uint16), **placement.options())
    for point in corners((5, 9, 8)):
        expected = layer.data_to_world((1, *point))[1:]
        np.testing.assert_allclose(labels.data_to_world(point), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_a_channel_axis_that_is_turned_into_space_is_refused():
    turned = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    layer = Image(np.zeros((4, 9, 8)), rotate=turned)
    with pytest.raises(ValueError, match="rotated or sheared"):
        layer_part(layer, "CYX")


@pytest.mark.parametrize("place", PLACES)
def test_the_result_lies_on_its_image_and_tells_where_it_comes_from(make_panel, wait, place):
    viewer, panel = make_panel(PLANE, **PLACES[place])
    image, labels = viewer.layers["image"], run(panel, wait)
    for point in corners(PLANE.shape):
        np.testing.assert_allclose(labels.data_to_world(point), image.data_to_world(point))
    assert len(np.unique(labels.data)) - 1 == n_discs()
    found = labels.metadata[METADATA_KEY]
    assert found["model"]["name"] == "stub"
    assert found["image"] == "image"
    wait(panel.results.figures.text)
    assert ("µm²" in panel.results.figures.text()) == (place == "scale, units")


KINDS = {
    "uint8": (PLANE // 16).astype(np.uint8),
    "int32 with negatives": PLANE.astype(np.int32) - 1000,
    "float16": (PLANE / 100).astype(np.float16),
    "float64": PLANE * 1e-9,
    "big-endian": PLANE.astype(">u2"),
    "reversed": np.ascontiguousarray(PLANE[::-1, ::-1])[::-1, ::-1],
    "fortran": np.asfortranarray(PLANE),
    "dask": da.from_array(PLANE, chunks=50),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_type_of_pixel_gives_the_same_cells(make_panel, wait, kind):
    _, panel = make_panel(KINDS[kind])
    assert len(np.unique(run(panel, wait).data)) - 1 == n_discs()


def test_a_constant_image_gives_no_cells_and_says_so(make_panel, wait):
    _, panel = make_panel(np.full((90, 90), 7, np.uint8))
    layer = run(panel, wait)
    assert not layer.data.any()
    wait(lambda: "No cells" in panel.results.figures.text())
    assert "contrast" in panel.status.text()


def test_a_stack_is_segmented_plane_by_plane_and_follows_the_slider(make_panel, wait):
    stack = np.stack([PLANE, PLANE[::-1], PLANE * 0, PLANE])
    viewer, panel = make_panel(stack, axis_labels=("z", "y", "x"), scale=(5, 1, 1))
    layer = run(panel, wait)
    assert layer.data.shape == stack.shape
    assert [len(np.unique(p)) - 1 for p in layer.data] == [n_discs(), n_discs(), 0, n_discs()]
    wait(lambda: panel.preview.is_following)
    panel.results.sliders.fill.setValue(0.1)
    expected = panel.preview.prediction.labels(*panel.results.sliders.values)
    wait(lambda: np.array_equal(layer.data, expected))
    viewer.dims.set_point(0, 10)
    wait(lambda: panel.preview.is_following and panel.preview.plane == 2)


def test_only_the_plane_in_view_is_segmented_where_that_is_asked(make_panel, wait):
    stack = np.stack([PLANE * 0, PLANE, PLANE * 0])
    viewer, panel = make_panel(stack, axis_labels=("t", "y", "x"), scale=(2, 1, 1))
    viewer.dims.set_point(0, 2)
    panel.form.planes.value = THIS_PLANE
    layer = run(panel, wait)
    assert layer.data.shape == (1, *PLANE.shape)
    np.testing.assert_allclose(layer.data_to_world((0, 5, 6)), (2, 5, 6))


def test_the_current_view_is_a_part_of_the_image(make_panel, wait):
    viewer, panel = make_panel(discs((1600, 1600)))
    # What the canvas sets when it is drawn; the windows of tests are never shown.
    viewer.layers["image"].corner_pixels = np.array([[400, 300], [900, 1100]])
    panel.form.region.box.value = VIEW
    layer = run(panel, wait)
    assert layer.data.shape == (501, 801)
    np.testing.assert_allclose(layer.translate, (400, 300))
    np.testing.assert_array_equal(np.unique(layer.data[100, 100:140]) > 0, [False, True])


def test_axes_that_are_not_named_are_asked_for(make_panel, wait):
    stack = np.stack([PLANE, PLANE, PLANE])
    viewer, panel = make_panel()
    viewer.add_image(stack, name="image")
    wait(lambda: "choose the axes" in panel.status.text())
    assert not panel.button.isEnabled()
    assert "ZYX" in panel.form.axes.choices
    panel.form.axes.value = "CYX"
    assert "Choose the channel" in panel.status.text()
    panel.form.channel.value = 1
    layer = run(panel, wait)
    assert layer.data.shape == PLANE.shape
    assert layer.ndim == 2


def test_what_was_said_of_axes_is_not_asked_again(make_panel, wait):
    viewer, panel = make_panel()
    viewer.add_image(np.stack([PLANE, PLANE, PLANE]), name="image")
    wait(lambda: panel.form.layer is not None)
    panel.form.axes.value = "ZYX"
    layer = run(panel, wait)
    assert axes_of(layer) == "ZYX"
    panel.results.tools.take("Accept")
    assert axes_of(viewer.layers["image corrected"]) == "ZYX"
    assert set(axes_of(viewer.layers["image"])) == {"?"}
    panel.results.further.link.click()
    linking = panel.results.further._linking
    assert linking.along.currentData() == "z"
    # Cells of planes that are not linked are no objects; those that are, are.
    measuring = MeasurePanel(viewer)
    viewer.window.add_dock_widget(measuring, name="Measure cells")
    measuring.labels.choose(layer)
    assert not measuring.objects.isChecked()
    measuring.objects.setChecked(True)
    measuring.runner.button.click()
    assert "link the planes first" in measuring.runner.status.text()
    linking.runner.button.click()
    wait(lambda: linking.runner.job is None)
    measuring.labels.choose(viewer.layers["image objects"])
    assert measuring.objects.isChecked()
    measuring.runner.button.click()
    wait(lambda: measuring.runner.job is None)
    assert measuring.table["n_planes"].tolist() == [3] * n_discs()


def test_axes_that_a_layer_tells_wrongly_can_be_changed(make_panel, wait):
    viewer, panel = make_panel()
    movie = viewer.add_image(np.stack([PLANE] * 3), name="image", axis_labels=("z", "y", "x"))
    wait(lambda: panel.form.axes.value == "ZYX")
    panel.form.axes.value = "TYX"
    layer = run(panel, wait)
    assert layer.axis_labels == ("t", "y", "x")
    assert movie.axis_labels == ("z", "y", "x")
    # Another image is not taken for a movie.
    viewer.add_image(np.stack([PLANE] * 2), name="stack", axis_labels=("z", "y", "x"))
    wait(lambda: panel.form.layer == viewer.layers["stack"])
    assert panel.form.axes.value == "ZYX"


def test_color_images_give_labels_of_two_dimensions(make_panel, wait):
    color = np.stack([(PLANE // 9).astype(np.uint8)] * 3, -1)
    viewer, panel = make_panel(color, rgb=True)
    assert axes_of(viewer.layers["image"]) == "YXS"
    layer = run(panel, wait)
    assert layer.data.shape == PLANE.shape
    assert len(np.unique(layer.data)) - 1 == n_discs()


def test_names_of_axes_are_read_from_the_layer():
    named = Image(np.zeros((2, 3, 4, 5)), axis_labels=("time", "Z", "y", "x"))
    assert axes_of(named) == "TZYX"
    assert axes_options(named)[0] == "TZYX"
    twice = Image(np.zeros((2, 4, 5)), axis_labels=("y", "y", "x"))
    assert axes_of(twice) == "???"


def test_labels_layers_are_not_offered_as_images(make_panel):
    viewer, panel = make_panel(PLANE)
    viewer.add_labels(np.zeros((5, 5), int))
    viewer.add_points(np.zeros((1, 2)))
    assert len(panel.form.image.choices) == 1
