"""Take pictures of the segment panel in a real viewer, after a run on a bundled image.

xvfb-run -s "-screen 0 1400x900x24" python scripts/screenshot.py docs/images/segment.png
"""

import argparse
import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_dinocell.widgets.segment_panel import SegmentPanel


def wait(condition, seconds=300):
    """Run the event loop until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > end:
            raise TimeoutError("The panel did not come to an end.")


def open_viewer(sample, engine=None, size=(1280, 800), theme="dark"):
    """A viewer with a bundled image and the panel, its model loaded."""
    viewer = napari.Viewer(show=True, title="napari")
    viewer.theme = theme
    viewer.window.resize(*size)
    viewer.open_sample("napari-dinocell", sample)
    panel = SegmentPanel(viewer, engine)
    viewer.window.add_dock_widget(panel, name="Segment cells")
    wait(lambda: panel.form.model.value)
    return viewer, panel


def segment(viewer, panel, model=None):
    """Click Segment and wait for the cells."""
    if model:
        panel.form.model.value = model
    wait(panel.button.isEnabled)
    viewer.reset_view()
    panel.button.click()
    wait(lambda: panel.job is None)
    if panel.preview is None:
        raise RuntimeError(panel.status.text())
    wait(lambda: panel.preview.is_following)
    wait(lambda: panel.results.figures.text())


def picture(viewer, path):
    """Write what the window shows."""
    for _ in range(5):
        QApplication.processEvents()
        time.sleep(0.05)
    path.parent.mkdir(parents=True, exist_ok=True)
    viewer.window.screenshot(str(path), canvas_only=False, flash=False)
    print(f"wrote {path}")


def main(engine=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--sample", default="fluorescence")
    parser.add_argument("--model", help="name; the one that suits the device if not given")
    parser.add_argument("--theme", default="dark", choices=("dark", "light"))
    parser.add_argument("--fill", type=float, help="move this slider before the picture")
    arguments = parser.parse_args()
    viewer, panel = open_viewer(arguments.sample, engine, theme=arguments.theme)
    segment(viewer, panel, arguments.model)
    if arguments.fill is not None:
        panel.results.sliders.fill.setValue(arguments.fill)
        wait(lambda: panel.preview.fill == arguments.fill)
    picture(viewer, arguments.output)
    viewer.close()


if __name__ == "__main__":
    main()
