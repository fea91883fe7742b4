"""Planes linked in a real viewer: what was found plane by plane becomes objects and tracks."""

import numpy as np
import pytest
from napari.layers import Labels
from synthetic import discs

from napari_dinocell.core.link import link

pytestmark = pytest.mark.qt


@pytest.fixture
def panel_on(make_napari_viewer_proxy):
    from napari_dinocell.widgets.linking_panel import LinkingPanel  # noqa: PLC0415

    def make(*layers):
        viewer = make_napari_viewer_proxy()
        for layer in layers:
            viewer.add_layer(layer)
        panel = LinkingPanel(viewer)
        viewer.window.add_dock_widget(panel, name="Link planes")
        return viewer, panel

    return make


def drifting(n=4):
    """Labels of discs that drift by three pixels per frame, with other ids in each."""
    frames = []
    for time in range(n):
        cells = discs((160, 200)) > 100
        ids = np.arange(160)[:, None] // 40 * 5 + np.arange(200) // 40 + 1
        ids = (ids * (7 + 2 * time)) % 53
        frames.append(np.roll(cells * ids, 3 * time, axis=1))
    return np.stack(frames)


def run(panel, wait):
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None)


def test_a_movie_becomes_tracks_in_a_new_layer_at_the_same_place(panel_on, wait):
    movie = drifting()
    layer = Labels(
        movie, name="movie cells", axis_labels=("t", "y", "x"), scale=(2, 0.5, 0.25),
        units=("s", "µm", "µm"), translate=(0, 3, 4),
    )  # fmt: skip
    viewer, panel = panel_on(layer)
    assert panel.along.currentData() == "t"
    assert panel.minimumSizeHint().width() <= 300
    run(panel, wait)
    tracks = viewer.layers["movie tracks"]
    np.testing.assert_array_equal(tracks.data, link(movie, "TYX", "t").labels)
    assert "20 tracks" in panel.runner.status.text()
    np.testing.assert_array_equal(tracks.scale, (2, 0.5, 0.25))
    np.testing.assert_array_equal(tracks.translate, (0, 3, 4))
    assert tracks.units == layer.units
    assert tracks.axis_labels == ("t", "y", "x")
    assert tracks.metadata["napari_dinocell"]["link"]["along"] == "t"
    np.testing.assert_array_equal(viewer.layers["movie cells"].data, movie)
    assert not viewer.layers["movie cells"].visible


def test_axes_that_are_not_known_are_asked_for(panel_on, wait):
    viewer, panel = panel_on(Labels(drifting(), name="cells"))
    run(panel, wait)
    assert "choose the axes" in panel.runner.status.text()
    assert len(viewer.layers) == 1
    panel.axes.setCurrentText("ZYX")
    assert panel.along.currentData() == "z"
    run(panel, wait)
    assert "20 objects" in panel.runner.status.text()


@pytest.mark.parametrize(
    ("name", "linked"), [("image cells", "image objects"), ("nuclei", "nuclei objects")]
)
def test_corrections_are_linked_with_the_cells_whatever_their_name(segmented, wait, name, linked):
    from napari_dinocell.widgets.linking_panel import LinkingPanel  # noqa: PLC0415

    stack = np.stack([discs()] * 3)
    viewer, segment = segmented(stack, axis_labels=("z", "y", "x"))
    segment.results.tools.corrector.reject([(20.0, 20.0)])
    segment.results.tools.corrector.accept([(20.0, 60.0)])
    viewer.layers["image cells"].name = name
    panel = LinkingPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Link planes")
    assert panel.labels.count() == 1
    run(panel, wait)
    objects = viewer.layers[linked].data
    deleted = int(segment.preview.plane)
    assert objects[deleted, 20, 20] == 0
    others = [plane for plane in range(3) if plane != deleted]
    assert all(objects[plane, 20, 20] > 0 for plane in others)
    for y, x in ((20, 60), (60, 60)):
        assert objects[0, y, x] > 0
        assert len(np.unique(objects[:, y, x])) == 1


def test_corrections_alone_are_linked(segmented, wait):
    from napari_dinocell.widgets.linking_panel import LinkingPanel  # noqa: PLC0415

    viewer, segment = segmented(np.stack([discs()] * 3), axis_labels=("z", "y", "x"))
    for plane in range(3):
        viewer.dims.set_current_step(0, plane)
        wait(lambda plane=plane: segment.preview.plane == plane and segment.preview.is_following)
        segment.results.tools.corrector.accept([(20.0, 60.0)])
        segment.results.tools.corrector.reject([(20.0, 20.0)])
    panel = LinkingPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Link planes")
    assert panel.labels.currentText() == "image cells"
    viewer.layers.remove("image cells")
    assert panel.labels.currentText() == "image corrected"
    run(panel, wait)
    assert "1 object:" in panel.runner.status.text()
    corrected = viewer.layers["image corrected"].data
    np.testing.assert_array_equal(viewer.layers["image corrected objects"].data > 0, corrected > 1)


@pytest.mark.parametrize("outer", [0, 2])
def test_an_accepted_cell_stays_apart_from_others_wherever_the_planes_axis_is(
    segmented, wait, outer
):
    from napari_dinocell.widgets.linking_panel import LinkingPanel  # noqa: PLC0415

    # Two cells in the same columns, one below the other.
    stack = np.stack([discs((80, 40))] * 5, axis=outer)
    letters = ["y", "x"]
    letters.insert(outer, "z")
    viewer, segment = segmented(stack, axis_labels=letters)
    segment.results.tools.corrector.accept([(20.0, 20.0)])
    assert np.count_nonzero(viewer.layers["image corrected"].data > 1) > 100
    panel = LinkingPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Link planes")
    run(panel, wait)
    assert "2 objects" in panel.runner.status.text()
    objects = np.moveaxis(viewer.layers["image objects"].data, outer, 0)
    assert len(np.unique(objects[:, 20, 20])) == len(np.unique(objects[:, 60, 20])) == 1
    assert objects[0, 20, 20] != objects[0, 60, 20]


def test_a_viewer_without_a_stack_says_what_to_do(panel_on, wait):
    viewer, panel = panel_on(Labels(np.ones((8, 8), int), name="one plane"))
    run(panel, wait)
    assert "segment a stack first" in panel.runner.status.text()
    viewer.add_labels(drifting(), name="stack", axis_labels=("t", "y", "x"))
    assert panel.labels.layer == viewer.layers["stack"]
    viewer.layers.remove("stack")
    assert panel.labels.layer is None


def test_a_link_can_be_cancelled(panel_on, wait):
    movie = np.tile(np.arange(1, 201, dtype=np.int32), (300, 400, 1))
    viewer, panel = panel_on(Labels(movie, name="cells", axis_labels=("t", "y", "x")))
    panel.runner.button.click()
    assert panel.runner.button.text() == "Cancel"
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None)
    assert panel.runner.status.text() == "Cancelled."
    assert len(viewer.layers) == 1
    assert panel.labels.isEnabled()


def test_the_chosen_layer_may_be_renamed_and_deleted(panel_on, wait):
    viewer, panel = panel_on(
        Labels(drifting(), name="a", axis_labels=("t", "y", "x")),
        Labels(drifting(), name="b", axis_labels=("t", "y", "x")),
    )
    chosen = panel.labels.layer
    chosen.name = "other"
    assert panel.labels.currentText() == "other"
    panel.runner.button.click()
    viewer.layers.remove("other")
    wait(lambda: panel.runner.job is None)
    assert "20 tracks" in panel.runner.status.text()
    assert viewer.layers["a"].visible
    assert panel.labels.layer == viewer.layers["a"]
