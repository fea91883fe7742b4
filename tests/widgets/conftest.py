"""What the viewer tests need: a display, napari, and a segmenter that needs no trained weights."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "core"))

INSTALL = (
    "apt-get install -y --no-install-recommends xvfb xauth libgl1 libegl1 libgl1-mesa-dri "
    "libdbus-1-3 libfontconfig1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 "
    "libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 "
    "libxcb-xkb1 && xvfb-run -a make test"
)


def missing():
    """Why the viewer tests cannot run here, as one sentence; empty if they can."""
    if any(importlib.util.find_spec(name) is None for name in ("napari", "qtpy", "pytestqt")):
        return "The viewer tests need napari, Qt and pytest-qt: make test installs them."
    try:
        importlib.import_module("qtpy.QtWidgets")
        importlib.import_module("napari.layers")
    except (ImportError, OSError, RuntimeError) as error:
        return f"Qt cannot be loaded ({error}); for the viewer tests run: {INSTALL}"
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return f"The viewer tests need a display; without one run: {INSTALL}"
    return ""


WHY_NOT = missing()
if WHY_NOT:
    collect_ignore_glob = ["test_viewer_*.py", "test_manifest.py"]


@pytest.fixture
def why_not():
    return WHY_NOT


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch, tmp_path):
    """Autosaved corrections and models go to folders of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NAPARI_DINOCELL_HOME", str(tmp_path / "home"))


@pytest.fixture
def engine():
    """Models of one panel: the map of this one is the image's own brightness."""
    from stub_networks import Stub, stub_card  # noqa: PLC0415

    from napari_dinocell.core.segmenter import Segmenter  # noqa: PLC0415
    from napari_dinocell.widgets.engine import Engine  # noqa: PLC0415

    return Engine(extra={"stub": Segmenter(Stub(), stub_card(), device="cpu")})


@pytest.fixture
def wait(qtbot):
    """Wait until something holds, while the event loop runs."""

    def until(condition, seconds=30):
        qtbot.waitUntil(lambda: bool(condition()), timeout=int(1000 * seconds))

    return until


@pytest.fixture
def make_panel(make_napari_viewer_proxy, engine, wait):
    """A viewer with some layers and the segment panel, its model loaded."""
    from napari_dinocell.widgets.segment_panel import SegmentPanel  # noqa: PLC0415

    def make(*images, **options):
        viewer = make_napari_viewer_proxy()
        for image in images:
            viewer.add_image(image, name="image", **options)
        panel = SegmentPanel(viewer, engine)
        viewer.window.add_dock_widget(panel, name="Segment cells")
        wait(lambda: panel.form.model.value is not None)
        panel.form.model.value = "stub"
        wait(lambda: panel.models.ready is not None or not images)
        return viewer, panel

    return make


@pytest.fixture
def segmented(make_panel, wait):
    """The same, after a run; its preview follows the sliders."""

    def run(*images, **options):
        viewer, panel = make_panel(*images, **options)
        wait(panel.button.isEnabled)
        panel.button.click()
        wait(lambda: panel.job is None)
        assert panel.preview is not None, panel.status.text()
        wait(lambda: panel.preview.is_following)
        return viewer, panel

    return run


@pytest.fixture
def annotated(segmented, wait):
    """A segmented image, some of its cells accepted, one deleted, and the panel to adapt with."""

    def make(n_accepted=8, image=None):
        from synthetic import CENTERS, discs  # noqa: PLC0415

        from napari_dinocell.core.adapt import Limits  # noqa: PLC0415

        viewer, panel = segmented(discs() if image is None else image)
        corrector = panel.results.tools.corrector
        for center in CENTERS[:n_accepted]:
            corrector.accept([center])
        corrector.reject([CENTERS[-1]])
        panel.results.further.adapt.click()
        adapting = panel.results.further.adapting
        adapting.limits = Limits(feature_seconds=4, training_seconds=2, n_views=1)
        wait(lambda: adapting.base.count())
        adapting.choose_base("small")
        wait(lambda: adapting.counts.cells == n_accepted)
        return viewer, panel, adapting

    return make


@pytest.fixture(autouse=True)
def _quiet_time():
    """Let deleted windows go before the next test begins."""
    yield
    app_module = sys.modules.get("qtpy.QtWidgets")
    if app_module is not None and app_module.QApplication.instance() is not None:
        for _ in range(3):
            app_module.QApplication.processEvents()
            time.sleep(0)
