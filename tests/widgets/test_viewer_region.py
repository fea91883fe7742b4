"""A part of an image gives the cells that the whole image gives; pyramids take a fitting level."""

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Labels
from synthetic import discs

from napari_dinocell.widgets.cell_size import ESTIMATE, GIVEN
from napari_dinocell.widgets.form import BY_SIZE, THIS_PLANE
from napari_dinocell.widgets.layers import level_for
from napari_dinocell.widgets.parts import LazyWindow
from napari_dinocell.widgets.region import DRAWN, WHOLE

pytestmark = pytest.mark.qt


def run(panel, wait):
    wait(panel.button.isEnabled)
    panel.button.click()
    wait(lambda: panel.job is None)
    assert panel.preview is not None, panel.status.text()
    return panel.preview


def rectangle(panel, top, left, bottom, right):
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    ndim = panel.form.region._sketch.layer.ndim
    outer = [(1,) * (ndim - 2) + corner for corner in corners]
    panel.form.region._sketch.layer.add([np.array(outer, float)], shape_type="rectangle")


def uneven():
    """Cells that are much brighter in one corner, so that each part has percentiles of its own."""
    plane = discs((320, 400)).astype(np.float32)
    y, x = np.mgrid[:320, :400]
    return plane * (1 + 3 * (y > 200) * (x > 280))


def drawn(panel, wait, *corners):
    panel.form.region.box.value = DRAWN
    rectangle(panel, *corners)
    wait(lambda: "Draw a rectangle" not in panel.status.text())


def test_a_drawn_rectangle_gives_the_cells_of_the_whole_image(make_panel, wait):
    plane = uneven()
    viewer, panel = make_panel(plane)
    whole = run(panel, wait)
    expected = whole.layer.data[40:161, 80:241].copy()
    panel.form.choose_layer(viewer.layers["image"])
    drawn(panel, wait, 40, 80, 160, 240)
    assert panel.status.text().startswith("121 x 161 px")
    preview = run(panel, wait)
    np.testing.assert_array_equal(
        preview.prediction.maps[0], whole.prediction.maps[0][40:161, 80:241]
    )
    np.testing.assert_array_equal(preview.layer.data > 0, expected > 0)
    assert preview.prediction.ranges == whole.prediction.ranges
    np.testing.assert_allclose(preview.layer.translate, (40, 80))
    # On its own, the dim part would have been stretched: the test can fail.
    alone = panel.engine.extra["stub"].predict(plane[40:161, 80:241])
    assert alone.ranges != whole.prediction.ranges


def test_a_rectangle_that_is_not_drawn_yet_is_asked_for(make_panel, wait):
    viewer, panel = make_panel(discs())
    panel.form.region.box.value = DRAWN
    assert str(viewer.layers["region"].mode) == "add_rectangle"
    assert "Draw a rectangle" in panel.status.text()
    assert not panel.button.isEnabled()
    rectangle(panel, 10, 10, 50, 60)
    wait(panel.button.isEnabled)
    # A second rectangle replaces the first.
    rectangle(panel, 0, 0, 20, 20)
    wait(lambda: len(viewer.layers["region"].data) == 1)
    assert panel.form.part().plane_shape == (21, 21)
    rectangle(panel, 500, 500, 600, 600)
    wait(lambda: "beside the image" in panel.status.text())
    viewer.layers.remove("region")
    assert panel.form.region.box.value == WHOLE
    assert panel.button.isEnabled()


def test_a_rectangle_goes_with_its_question_or_its_image(make_panel):
    viewer, panel = make_panel(discs())
    panel.form.region.box.value = DRAWN
    panel.form.region.box.value = WHOLE
    assert "region" not in viewer.layers
    panel.form.region.box.value = DRAWN
    rectangle(panel, 10, 10, 50, 60)
    viewer.add_image(discs((60, 60)), name="other", translate=(500, 0))
    panel.form.choose_layer(viewer.layers["other"])
    assert len(viewer.layers["region"].data) == 0
    np.testing.assert_array_equal(viewer.layers["region"].translate, (500, 0))


def test_a_rectangle_of_one_plane_of_a_turned_stack(make_panel, wait):
    stack = np.stack([uneven() * 0, uneven(), uneven()[::-1]])
    options = {"scale": (5, 2, 2), "rotate": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])}
    viewer, panel = make_panel(stack, axis_labels=("z", "y", "x"), **options)
    viewer.dims.set_point(0, 5)
    panel.form.planes.value = THIS_PLANE
    drawn(panel, wait, 40, 80, 160, 240)
    layer = run(panel, wait).layer
    assert layer.data.shape == (1, 121, 161)
    for point in ((0, 0, 0), (0, 120, 160)):
        there = (point[0] + 1, point[1] + 40, point[2] + 80)
        expected = viewer.layers["image"].data_to_world(there)
        np.testing.assert_allclose(layer.data_to_world(point), expected)
    expected = panel.engine.extra["stub"].predict(stack[1]).maps[0][40:161, 80:241]
    np.testing.assert_array_equal(panel.preview.prediction.maps[0], expected)


class Counted:
    """A huge plane that counts what is read of it."""

    def __init__(self, shape):
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.uint16), 2
        self.pixels = 0

    def block(self, block_info=None):
        (top, bottom), (left, right) = block_info[None]["array-location"]
        self.pixels += (bottom - top) * (right - left)
        # Chunks are whole numbers of cells.
        return np.tile(discs((40, 40)), ((bottom - top) // 40, (right - left) // 40))


def test_a_region_of_a_huge_image_reads_little_more_than_the_region(make_panel, wait):
    huge = Counted((20_000, 20_000))
    lazy = da.map_blocks(huge.block, chunks=((400,) * 50, (400,) * 50), dtype=np.uint16)
    # A single array of this size would be read whole by napari itself.
    levels = [lazy, da.zeros((2000, 2000), np.uint16), np.zeros((200, 200), np.uint16)]
    _, panel = make_panel(levels, contrast_limits=(0, 2100), multiscale=True)
    # Row 12 of the input matrix: napari skips pixels of labels as large as that.
    wait(lambda: "draws labels above 16,384 px coarsely" in panel.status.text())
    drawn(panel, wait, 12_000, 8_000, 12_399, 8_599)
    wait(panel.button.isEnabled)
    assert "coarsely" not in panel.status.text()
    huge.pixels = 0
    preview = run(panel, wait)
    assert preview.layer.data.shape == (400, 600)
    np.testing.assert_array_equal(preview.layer.translate, (12_000, 8_000))
    assert len(np.unique(preview.layer.data)) - 1 == 150
    # The region, and bands of the plane for its percentiles.
    assert huge.pixels < 0.15 * 20_000**2


@pytest.mark.parametrize(
    ("diameter", "level"), [(10, 0), (24, 0), (47, 1), (60, 1), (100, 2), (1e4, 3)]
)
def test_the_coarsest_level_is_taken_on_which_cells_are_large_enough(diameter, level):
    assert level_for((1.0, 2.0, 4.0, 8.0), diameter, 24) == level


def pyramid(plane, n=3):
    return [plane[:: 2**i, :: 2**i] for i in range(n)]


def test_the_level_of_a_pyramid_follows_the_size_of_the_cells(make_panel, wait):
    plane = discs((640, 800), pitch=160, radius=52)
    viewer, panel = make_panel(pyramid(plane), multiscale=True, scale=(0.5, 0.5))
    assert panel.form.level.value == BY_SIZE
    assert panel.form.part().level == 0
    panel.form.cell_size.how.value = ESTIMATE
    assert panel.form.part().level == 0
    panel.form.cell_size.how.value = GIVEN
    panel.form.cell_size.pixels.value = 96
    part = panel.form.part()
    assert (part.level, panel.form.diameter_of(part)) == (2, 24)
    assert "160 x 200 px of level 2" in panel.status.text()
    preview = run(panel, wait)
    assert preview.layer.data.shape == (160, 200)
    assert preview.prediction.scale == 1
    np.testing.assert_allclose(preview.layer.scale, (2, 2))
    # The cells cover the same ground: the world extents of image and labels are equal.
    image = viewer.layers["image"]
    np.testing.assert_allclose(preview.layer.extent.world, image.extent.world, atol=1.0)
    assert len(np.unique(preview.layer.data)) - 1 == 20
    assert preview.result.provenance["level"] == 2
    panel.form.choose_layer(image)
    panel.form.level.value = 1
    assert panel.form.part().plane_shape == (320, 400)


def test_a_view_of_an_ome_zarr_pyramid_is_read_from_its_level(make_panel, wait, tmp_path):
    """Arrays as napari's readers of OME-Zarr give them: zarr or dask, chunked, one per level."""
    plane = discs((640, 800), pitch=80, radius=26)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    levels = []
    for number, level in enumerate(pyramid(plane)):
        array = group.create_array(str(number), shape=level.shape, chunks=(128, 128), dtype="u2")
        array[:] = level
        levels.append(array)
    _, panel = make_panel(levels, multiscale=True, contrast_limits=(0, 2100))
    panel.form.cell_size.how.value = GIVEN
    panel.form.cell_size.pixels.value = 48
    drawn(panel, wait, 160, 0, 479, 399)
    layer = run(panel, wait).layer
    assert layer.data.shape == (160, 200)
    assert len(np.unique(layer.data)) - 1 == 20
    corner = Labels(np.zeros((2, 2), int)).data_to_world((0, 0))
    np.testing.assert_allclose(layer.data_to_world(corner), (160.5, 0.5))


def test_a_lazy_window_gives_what_the_array_gives():
    array = np.arange(5 * 7 * 9).reshape(5, 7, 9)
    window = LazyWindow(array, (slice(1, 5), slice(2, 6), slice(0, 9)))
    part = array[1:5, 2:6]
    assert (window.shape, window.dtype) == (part.shape, array.dtype)
    for key in (1, (slice(None),), (0, slice(1, 3)), (slice(0, 4, 2), -1, slice(3, None))):
        np.testing.assert_array_equal(window[key], part[key])
