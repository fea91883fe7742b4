"""Layers and viewers that change or go while something runs."""

import threading

import numpy as np
import pytest
from stub_networks import Broken, OutOfMemory, Stub, stub_card
from synthetic import discs, n_discs

from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.widgets.engine import Engine
from napari_dinocell.widgets.jobs import Job
from napari_dinocell.widgets.segment_panel import SegmentPanel

pytestmark = pytest.mark.qt


class Gate(Stub):
    """A network that waits in front of a gate, once it is closed."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.arrived = threading.Event()

    def __deepcopy__(self, memo):
        return self

    def features(self, x):
        self.arrived.set()
        assert self.open.wait(30)
        return super().features(x)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def engine(gate):
    return Engine(extra={"stub": Segmenter(gate, stub_card(), device="cpu", batch_size=1)})


@pytest.fixture
def stopped(make_panel, wait, gate):
    """A run that stands in front of the gate."""
    viewer, panel = make_panel(discs())
    wait(panel.button.isEnabled)
    gate.open.clear()
    gate.arrived.clear()
    panel.button.click()
    wait(gate.arrived.is_set)
    return viewer, panel


def finish(panel, wait, gate):
    gate.open.set()
    wait(lambda: panel.job is None)


def test_the_result_is_named_after_the_image_as_it_is_called_at_the_end(stopped, wait, gate):
    viewer, panel = stopped
    viewer.layers["image"].name = "other"
    finish(panel, wait, gate)
    assert "other cells" in viewer.layers


def test_a_deleted_image_still_gets_its_result_in_its_place(stopped, wait, gate):
    viewer, panel = stopped
    viewer.layers["image"].translate = (3, 4)
    viewer.layers.remove("image")
    finish(panel, wait, gate)
    layer = viewer.layers["image cells"]
    assert len(np.unique(layer.data)) - 1 == n_discs()
    np.testing.assert_array_equal(layer.translate, (0, 0))
    assert not panel.button.isEnabled()


def test_46_an_image_that_changed_meanwhile_is_told(stopped, wait, gate):
    viewer, panel = stopped
    viewer.layers["image"].data = discs()[::-1]
    finish(panel, wait, gate)
    assert "⚠ The image was changed" in panel.status.text()
    np.testing.assert_array_equal(
        viewer.layers["image cells"].data > 0, panel.preview.prediction.labels() > 0
    )


def test_43_to_45_the_result_goes_while_another_run_is_under_way(stopped, wait, gate):
    viewer, panel = stopped
    finish(panel, wait, gate)
    gate.open.clear()
    panel.form.choose_layer(viewer.layers["image"])
    wait(panel.button.isEnabled)
    panel.button.click()
    viewer.layers.remove("image cells")
    assert panel.preview is None
    panel.results.sliders.fill.setValue(0.1)
    finish(panel, wait, gate)
    assert [layer.name for layer in viewer.layers] == ["image", "image cells"]
    assert panel.preview is not None


def test_cancel_stops_at_the_next_batch_and_is_no_error(stopped, wait, gate):
    viewer, panel = stopped
    panel.button.click()
    finish(panel, wait, gate)
    assert panel.status.text().startswith("Cancelled")
    assert len(viewer.layers) == 1


def test_a_viewer_that_is_closed_ends_its_run_without_a_result(stopped, wait, gate):
    viewer, panel = stopped
    ticket, worker = panel.job.ticket, panel.job._worker
    results = []
    worker.returned.connect(results.append)
    viewer.close()
    assert ticket.cancel()
    gate.open.set()
    wait(lambda: not worker.is_running)
    assert not results


def test_progress_tells_the_time_left(stopped, wait, gate):
    _, panel = stopped
    panel._progress(0, 8)
    assert "left" not in panel.bar.format()
    panel.job.ticket.progress(2, 8)
    panel._progress(2, 8)
    assert "left" in panel.bar.format()
    finish(panel, wait, gate)


def test_two_viewers_run_at_once_and_keep_their_cells_apart(make_napari_viewer_proxy, wait, gate):
    panels, images = [], [discs(), discs((80, 120))]
    for image in images:
        viewer = make_napari_viewer_proxy()
        viewer.add_image(image, name="image")
        engine = Engine(extra={"stub": Segmenter(gate, stub_card(), device="cpu")})
        panel = SegmentPanel(viewer, engine)
        viewer.window.add_dock_widget(panel)
        wait(lambda panel=panel: panel.form.model.value)
        panel.form.model.value = "stub"
        wait(panel.button.isEnabled)
        panels.append(panel)
    gate.open.clear()
    for panel in panels:
        panel.button.click()
    assert all(panel.job is not None for panel in panels)
    gate.open.set()
    wait(lambda: all(panel.job is None for panel in panels))
    counts = [len(np.unique(p.viewer.layers["image cells"].data)) - 1 for p in panels]
    assert counts == [n_discs(), n_discs((80, 120))]


def test_two_panels_of_one_viewer_run_at_once(make_panel, wait, gate):
    viewer, first = make_panel(discs())
    viewer.add_image(discs((80, 120)), name="other", translate=(0, 300))
    engine = Engine(extra={"stub": Segmenter(gate, stub_card(), device="cpu")})
    second = SegmentPanel(viewer, engine)
    viewer.window.add_dock_widget(second, name="Second")
    wait(lambda: second.form.model.value)
    second.form.model.value = "stub"
    first.form.choose_layer(viewer.layers["image"])
    second.form.choose_layer(viewer.layers["other"])
    wait(lambda: first.button.isEnabled() and second.button.isEnabled())
    gate.open.clear()
    first.button.click()
    second.button.click()
    assert first.job is not None
    assert second.job is not None
    gate.open.set()
    wait(lambda: first.job is None and second.job is None)
    assert len(np.unique(viewer.layers["image cells"].data)) - 1 == n_discs()
    assert len(np.unique(viewer.layers["other cells"].data)) - 1 == n_discs((80, 120))
    # Each panel moves its own cells.
    wait(lambda: first.preview.is_following and second.preview.is_following)
    moved, before = (
        viewer.layers["image cells"].data.copy(),
        viewer.layers["other cells"].data.copy(),
    )
    first.results.sliders.fill.setValue(0.1)
    wait(lambda: not np.array_equal(viewer.layers["image cells"].data, moved))
    np.testing.assert_array_equal(viewer.layers["other cells"].data, before)


def test_55_one_layer_in_two_viewers_gets_its_result_in_the_one_that_ran(
    make_panel, make_napari_viewer_proxy, wait
):
    viewer, panel = make_panel(discs())
    other = make_napari_viewer_proxy()
    other.add_layer(viewer.layers["image"])
    wait(panel.button.isEnabled)
    panel.button.click()
    wait(lambda: panel.job is None)
    assert "image cells" in viewer.layers
    assert len(other.layers) == 1


def test_56_a_dock_that_is_closed_and_opened_again_keeps_its_state(make_panel, wait):
    viewer, panel = make_panel(discs())
    wait(panel.button.isEnabled)
    panel.form.region.box.value = "current view"
    dock = panel.parentWidget()
    dock.hide()
    viewer.layers["image"].name = "renamed"
    dock.show()
    assert panel.form.region.box.value == "current view"
    assert panel.form.image.native.currentText() == "renamed"
    panel.form.region.box.value = "whole image"
    panel.button.click()
    wait(lambda: panel.job is None)
    assert len(viewer.layers) == 2


@pytest.mark.parametrize("network", [Broken(), OutOfMemory(0)])
def test_a_network_that_fails_is_one_line_and_no_layer(
    make_napari_viewer_proxy, wait, network, gate
):
    viewer = make_napari_viewer_proxy()
    viewer.add_image(discs(), name="image")
    engine = Engine(extra={"stub": Segmenter(network, stub_card(), device="cpu")})
    panel = SegmentPanel(viewer, engine)
    viewer.window.add_dock_widget(panel)
    wait(lambda: panel.form.model.value)
    panel.form.model.value = "stub"
    wait(lambda: "⚠" in panel.status.text())
    assert not panel.button.isEnabled()
    assert len(viewer.layers) == 1


def test_steps_and_results_arrive_on_the_thread_of_the_window(qtbot, wait):
    seen = {}

    def work(ticket):
        seen["work"] = threading.get_ident()
        yield "step"
        return 3

    job = Job(work)
    job.step.connect(lambda _: seen.setdefault("step", threading.get_ident()))
    job.succeeded.connect(lambda _: seen.setdefault("result", threading.get_ident()))
    job.start()
    wait(lambda: not job.is_running)
    assert seen["work"] != threading.get_ident()
    assert seen["step"] == seen["result"] == threading.get_ident()
