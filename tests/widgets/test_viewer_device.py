"""58: a device without enough memory, or one that is lost, is told, and the CPU is offered."""

import numpy as np
import pytest
import torch
from stub_networks import OutOfMemory, Stub, stub_card
from synthetic import discs, n_discs

from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.widgets.engine import Engine
from napari_dinocell.widgets.jobs import expected
from napari_dinocell.widgets.segment_panel import SegmentPanel

pytestmark = pytest.mark.qt

LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later."


class SmallGpu(Engine):
    """A computer with a GPU that takes so many tiles at once, played by a network."""

    def __init__(self, network):
        super().__init__()
        self.gpu = Segmenter(network, stub_card(), device="cpu", batch_size=4)
        self.gpu.device = torch.device("cuda:0")
        self.extra = {"stub": Segmenter(Stub(), stub_card(), device="cpu")}

    def choices(self):
        models, _, _ = super().choices()
        return models, ["auto", "cuda:0", "cpu"], "stub"

    def _segmenter(self, name, device):
        return super()._segmenter(name, device) if device == "cpu" else self.gpu


class Lost(Stub):
    """A device that works until it is lost."""

    is_lost = False

    def __deepcopy__(self, memo):
        return self

    def features(self, x):
        if self.is_lost:
            raise RuntimeError(LOST)
        return super().features(x)


@pytest.fixture
def on_gpu(make_napari_viewer_proxy, wait):
    def make(network):
        viewer = make_napari_viewer_proxy()
        viewer.add_image(discs((400, 400)), name="image")
        panel = SegmentPanel(viewer, SmallGpu(network))
        viewer.window.add_dock_widget(panel)
        wait(lambda: panel.models.ready or panel.models.error)
        return viewer, panel

    return make


def finish_on_the_cpu(viewer, panel, wait):
    panel.cpu_button.click()
    assert panel.form.device.value == "cpu"
    wait(panel.button.isEnabled)
    assert "on CPU" in panel.status.text()
    assert not panel.cpu_button.isVisibleTo(panel)
    panel.button.click()
    wait(lambda: panel.job is None)
    assert len(np.unique(viewer.layers["image cells"].data)) - 1 == n_discs((400, 400))


def test_58_too_many_tiles_at_once_are_halved_without_a_word(on_gpu, wait):
    viewer, panel = on_gpu(OutOfMemory(1))
    panel.button.click()
    wait(lambda: panel.job is None)
    assert len(np.unique(viewer.layers["image cells"].data)) - 1 == n_discs((400, 400))
    assert not panel.cpu_button.isVisibleTo(panel)


def test_58_where_not_even_one_tile_fits_the_cpu_is_offered(on_gpu, wait):
    viewer, panel = on_gpu(OutOfMemory(0))
    assert "does not fit into the memory" in panel.status.text()
    assert not panel.button.isEnabled()
    assert len(viewer.layers) == 1
    finish_on_the_cpu(viewer, panel, wait)


def test_58_a_device_that_is_lost_in_mid_run_leaves_layers_alone(on_gpu, wait):
    network = Lost()
    viewer, panel = on_gpu(network)
    panel.button.click()
    wait(lambda: panel.job is None)
    before = viewer.layers["image cells"].data.copy()
    network.is_lost = True
    panel.button.click()
    wait(lambda: panel.job is None)
    sentence = "⚠ The device failed: CUDA error: unspecified launch failure."
    assert panel.status.text() == sentence
    assert len(viewer.layers) == 2
    np.testing.assert_array_equal(viewer.layers["image cells"].data, before)
    panel.preview.layer.name = "before"
    finish_on_the_cpu(viewer, panel, wait)


def test_58_the_cpu_is_not_offered_where_it_failed_itself(make_napari_viewer_proxy, wait):
    viewer = make_napari_viewer_proxy()
    viewer.add_image(discs(), name="image")
    segmenter = Segmenter(OutOfMemory(0), stub_card(), device="cpu")
    panel = SegmentPanel(viewer, Engine(extra={"stub": segmenter}))
    viewer.window.add_dock_widget(panel)
    wait(lambda: panel.form.model.value)
    panel.form.model.value = "stub"
    wait(lambda: "does not fit" in panel.status.text())
    assert not panel.cpu_button.isVisibleTo(panel)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has."),
         "The device failed: CUDA out of memory."),
        (RuntimeError(LOST), "The device failed: CUDA error: unspecified launch failure."),
        (MemoryError("Free some."), "Free some."),
        (RuntimeError("shapes differ"), "RuntimeError: shapes differ"),
    ],
)  # fmt: skip
def test_58_what_a_device_says_is_made_one_sentence(error, sentence):
    assert expected(error) == sentence
