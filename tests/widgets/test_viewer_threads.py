"""The thread of the window computes nothing but the cut, whatever the user does."""

import sys
from pathlib import Path

import numpy as np
import pytest
from stub_networks import Stub, stub_card
from synthetic import discs, n_discs
from vispy.visuals.line import dash_atlas

from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.widgets.editing import DELETE, SPLIT
from napari_dinocell.widgets.engine import Engine

pytestmark = pytest.mark.qt

FORMULA = {"intercept": -20.0, "height": 24.0, "prominence": 1.0, "mean": 0.0}

# What the thread of the window may call in core: names, shapes and thresholds; the cut of the
# plane in view; and what a correction changes in the box around it.
NAMES = {"axis_names", "axes", "units", "lazy"}
CUT = {
    "cut",
    "confidence",
    "drop_uncertain",
    "features",
    "give_way",
    "level",
    "thresholds",
}
KERNELS = {"group_basins", "count_pixels", "paint", "rename"}
CORRECTION = {"Cells", "Edit", "cells_under", "reject", "split", "accept", "painted", "merge"}
QUICK = {"n_planes", "scale", "shape", "__len__"}
HEAVY = {"flood", "quantize", "predict", "intensity_range", "normalize", "measure", "combine"}
HEAVY |= {"write_labels", "write_table", "map_stack", "image", "load_model", "warm_up", "planes"}


@pytest.fixture
def engine():
    card = stub_card(confidence=FORMULA, peak=0.3, fill=0.1)
    return Engine(extra={"stub": Segmenter(Stub(), card, device="cpu")})


class Watch:
    """Functions of core that the current thread calls."""

    def __init__(self):
        self.called = set()
        self._core = str(Path("napari_dinocell") / "core")

    def __enter__(self):
        sys.setprofile(self._see)
        return self.called

    def __exit__(self, *_):
        sys.setprofile(None)

    def _see(self, frame, event, argument):
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if event == "call" and self._core in path and not name.startswith("<"):
            self.called.add((Path(path).stem, name))


@pytest.mark.skipif(
    not hasattr(dash_atlas._make_pattern, "cache_info"), reason="this vispy keeps no patterns"
)
def test_what_napari_computes_once_for_labels_is_there_before_the_first_of_them(make_panel, wait):
    dash_atlas._make_pattern.cache_clear()
    _, panel = make_panel(discs())
    wait(panel.button.isEnabled)
    computed = dash_atlas._make_pattern.cache_info().misses
    assert computed > 0
    panel.button.click()
    wait(lambda: panel.preview is not None and panel.preview.is_following)
    assert dash_atlas._make_pattern.cache_info().misses == computed


def test_the_window_computes_nothing_but_the_cut(make_panel, wait, tmp_path):
    plane = discs()
    viewer, panel = make_panel()
    wait(lambda: panel.models.ready is not None)
    with Watch() as called:
        viewer.add_image(np.stack([plane, plane]), name="image", axis_labels=("z", "y", "x"))
        wait(panel.button.isEnabled)
        panel.form.region.box.value = "drawn rectangle"
        corners = [(0, 0, 0), (0, 0, 199), (0, 119, 199), (0, 119, 0)]
        panel.form.region._sketch.layer.add([np.array(corners)], shape_type="rectangle")
        wait(panel.button.isEnabled)
        panel.button.click()
        wait(lambda: panel.job is None)
        wait(lambda: panel.preview.is_following)
        sliders, tools = panel.results.sliders, panel.results.tools
        sliders.fill.setValue(0.05)
        sliders.confidence.setValue(0.01)
        sliders.color.setChecked(True)
        wait(lambda: panel.preview.min_confidence > 0)
        for tool, line in (
            (DELETE, [(0, 20.0, 20.0)]),
            (SPLIT, [(0, 60.0, 42.0), (0, 60.0, 78.0)]),
        ):
            tools.take(tool)
            tools.apply(line)
            tools.put_away()
        viewer.dims.set_point(0, 1)
        wait(lambda: panel.preview.is_following and panel.preview.plane == 1)
        panel.results.map_button.click()
        wait(lambda: "image distance map" in viewer.layers)
        panel.results.export("table", tmp_path / "a.csv")
        wait((tmp_path / "a.csv").exists)
    assert {
        ("instances", "cut"),
        ("confidence", "drop_uncertain"),
        ("corrections", "split"),
    } <= called
    assert panel.results.figures.text().startswith("15 cells")
    assert n_discs((120, 200)) == 15
    assert not {name for _, name in called} & HEAVY
    public = {(m, f) for m, f in called if m not in NAMES and not f.startswith("_")}
    assert {f for _, f in public} <= CUT | KERNELS | CORRECTION | QUICK
