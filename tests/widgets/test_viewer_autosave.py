"""A killed viewer costs no corrections."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from synthetic import discs

from napari_dinocell.widgets import autosave
from napari_dinocell.widgets.editing import ACCEPT, DELETE

pytestmark = pytest.mark.qt

ABOUT = autosave.Saved("image", (160, 200), os.getpid(), 0.0, 0.0)

# A viewer that corrects two cells, waits for the file, and tells its process.
VICTIM = """
import sys, time
sys.path[:0] = {paths!r}
import napari, numpy as np
from qtpy.QtWidgets import QApplication
from stub_networks import Stub, stub_card
from synthetic import discs
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.widgets import autosave
from napari_dinocell.widgets.engine import Engine
from napari_dinocell.widgets.segment_panel import SegmentPanel

def wait(condition):
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)

viewer = napari.Viewer(show=False)
viewer.add_image(discs(), name="image")
panel = SegmentPanel(viewer, Engine(extra={{"stub": Segmenter(Stub(), stub_card(), "cpu")}}))
viewer.window.add_dock_widget(panel)
wait(lambda: panel.form.model.value)
panel.form.model.value = "stub"
wait(panel.button.isEnabled)
panel.button.click()
wait(lambda: panel.preview is not None and panel.preview.is_following)
for tool, point in (("Delete", (20.0, 20.0)), ("Accept", (20.0, 60.0))):
    panel.results.tools.take(tool)
    panel.results.tools.apply([point])
    panel.results.tools.put_away()
# A file that is still being written ends in .npz, too.
wait(lambda: list(autosave.folder().glob("*.corrections.npz")))
print("saved", flush=True)
wait(lambda: False)
"""


@settings(deadline=None, max_examples=50)
@given(
    arrays(
        st.sampled_from([np.uint16, np.int32]),
        array_shapes(min_dims=2, max_dims=3, max_side=9),
        elements=st.integers(0, 3),
    )
)
def test_what_is_saved_is_what_is_loaded(tmp_path_factory, corrected):
    path = tmp_path_factory.mktemp("saved") / "a.npz"
    about = replace(ABOUT, shape=corrected.shape)
    autosave.save(path, corrected, about)
    loaded = autosave.load(path)
    np.testing.assert_array_equal(loaded, corrected)
    assert loaded.dtype == corrected.dtype
    assert autosave.read_about(path) == about


def test_a_damaged_file_is_told_and_passed_over(tmp_path):
    autosave.folder().mkdir(parents=True)
    path = autosave.folder() / "x.corrections.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ValueError, match="delete it"):
        autosave.load(path)
    assert autosave.find_lost("image", (160, 200)) is None


def test_corrections_of_a_process_that_lives_are_not_lost():
    import psutil  # noqa: PLC0415

    mine = replace(ABOUT, started=psutil.Process().create_time())
    assert not mine.is_lost
    assert replace(mine, started=mine.started - 1000).is_lost


def test_corrections_of_a_killed_viewer_can_be_restored(segmented, wait):
    here = Path(__file__).resolve().parent
    code = VICTIM.format(paths=[str(here), str(here.parent / "core")])
    victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert victim.stdout.readline() == "saved\n"
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
    viewer, panel = segmented(discs())
    layer = viewer.layers["image cells"]
    accepted = layer.data == layer.data[20, 60]
    wait(lambda: panel.results.restore_button.isVisibleTo(panel))
    panel.results.restore_button.click()
    wait(lambda: "image corrected" in viewer.layers)
    corrected = viewer.layers["image corrected"]
    np.testing.assert_array_equal(corrected.data > 1, accepted)
    assert layer.data[20, 20] == 0
    old = autosave.find_lost("image", (160, 200))
    wait(lambda: not old.exists())
    assert len(list(autosave.folder().glob("*.npz"))) == 1
    corrected.undo()
    assert not corrected.data.any()


def test_corrections_are_saved_without_being_asked(segmented, wait):
    viewer, panel = segmented(discs())
    start = time.monotonic()
    for tool, point in ((DELETE, (20.0, 20.0)), (ACCEPT, (60.0, 60.0))):
        panel.results.tools.take(tool)
        panel.results.tools.apply([point])
        panel.results.tools.put_away()
    path = panel.results.autosaver.path
    wait(path.exists)
    assert time.monotonic() - start < 10
    np.testing.assert_array_equal(autosave.load(path), viewer.layers["image corrected"].data)
    assert path.stat().st_size < 20_000
