"""Take the pictures of the documentation in a real viewer, from opening an image to adapting.

xvfb-run -a -s "-screen 0 1400x1000x24" python scripts/screenshots.py docs/images

The colors of each picture are reduced to 128, so that all of them together stay below 1 MB.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from qtpy.QtCore import QRect
from qtpy.QtWidgets import QApplication
from screenshot import open_viewer, picture, segment, wait

from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.widgets.batch_panel import BatchPanel, BatchSettings
from napari_dinocell.widgets.editing import ACCEPT, SPLIT

SIZE = (1280, 780)
COLORS = 128


def shrink(path):
    """Reduce the colors of a picture."""
    image = Image.open(path).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    print(f"{path}: {image.size[0]} x {image.size[1]} px, {path.stat().st_size // 1024} KiB")


def window(viewer, path):
    """The whole window."""
    picture(viewer, path)
    shrink(path)


def panel_alone(panel, path):
    """A panel without the window around it."""
    QApplication.processEvents()
    panel.grab(QRect(0, 0, panel.width(), panel.sizeHint().height())).save(str(path))
    shrink(path)


def usual_cells(layer, n):
    """World coordinates of the middle pixel of the n cells that are nearest to the median area."""
    ids, areas = np.unique(layer.data[layer.data > 0], return_counts=True)
    return middles(layer.data, ids[np.argsort(abs(areas - np.median(areas)))[:n]])


def others(layer, found, n):
    """The same of the n cells that other labels have least in common with, specks left out."""
    table = overlap_table(found, np.asarray(layer.data))
    is_large = table.pred_areas >= np.median(table.pred_areas) / 2
    order = np.argsort(np.where(is_large, table.best_ious(), np.inf))
    return middles(layer.data, table.pred_ids[order[:n]])


def middles(labels, cells):
    """Of each cell the pixel that is nearest to its center."""
    places = []
    for cell in cells:
        y, x = np.nonzero(labels == cell)
        middle = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
        places.append((int(y[middle]), int(x[middle])))
    return places


def accept(panel, places):
    """Accept some cells with the button."""
    panel.results.tools.take(ACCEPT)
    for y, x in places:
        panel.results.tools.apply([(y, x), (y, x + 1)])


def correct(viewer, panel):
    """Accept some cells and take the knife, as a user does with the buttons."""
    middle = np.array(panel.preview.layer.data.shape) / 2
    places = usual_cells(panel.preview.layer, 12)
    accept(panel, places)
    y, x = min(places, key=lambda place: np.hypot(*(place - middle)))
    panel.results.tools.take(SPLIT)
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 has it in the scene
    camera.center = (y, x)
    camera.zoom = 3
    wait(lambda: panel.preview.is_following)


def adapt(viewer, panel):
    """Accept cells of the large model that the small one gets wrong, and adapt it to them."""
    segment(viewer, panel, "small")
    found = panel.preview.layer.data.copy()
    segment(viewer, panel, "vits8")
    accept(panel, others(panel.preview.layer, found, 20))
    panel.results.tools.put_away()
    segment(viewer, panel, "small")
    panel.results.further.adapt.click()
    adapting = panel.results.further.adapting
    wait(lambda: adapting.base.count() and adapting.counts.cells)
    adapting.choose_base("small")
    adapting.runner.button.click()
    wait(lambda: adapting.runner.job is None)
    viewer.reset_view()


def main(engine=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    # What an earlier session left to be restored, or prefers, is not part of the tutorial.
    home = tempfile.TemporaryDirectory()
    os.environ |= {"XDG_STATE_HOME": home.name, "XDG_CONFIG_HOME": home.name}
    os.environ["NAPARI_DINOCELL_HOME"] = home.name
    viewer, panel = open_viewer("fluorescence", engine, SIZE, theme="light")
    wait(panel.button.isEnabled)
    viewer.layers[0].contrast_limits = (0, 130)
    viewer.reset_view()
    window(viewer, folder / "tutorial-open.png")
    segment(viewer, panel)
    window(viewer, folder / "tutorial-cells.png")
    results = panel.results
    results.sliders.fill.setValue(min(0.9 * panel.preview.peak, 0.6))
    wait(lambda: panel.preview.fill == results.sliders.fill.value())
    window(viewer, folder / "tutorial-fill.png")
    results.sliders.reset.click()
    wait(lambda: panel.preview.fill == panel.preview.defaults.fill)
    correct(viewer, panel)
    window(viewer, folder / "tutorial-correct.png")
    batch = BatchPanel(viewer, BatchSettings.of(panel.preview))
    dock = viewer.window.add_dock_widget(batch, name="Segment a folder", tabify=True)
    wait(lambda: batch.form.model.count() > 1)
    batch.form.inputs.line.setText(str(Path("plate 3", "images")))
    batch.form.written["table"].setChecked(True)
    dock.raise_()
    panel_alone(batch, folder / "panel-folder.png")
    viewer.close()
    viewer, panel = open_viewer("phase_contrast", engine, SIZE, theme="light")
    adapt(viewer, panel)
    window(viewer, folder / "panel-adapt.png")
    viewer.close()


if __name__ == "__main__":
    main()
