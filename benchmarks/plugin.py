"""What a hand at a slider waits for, in a real viewer with a real event loop.

    xvfb-run -s "-screen 0 1400x900x24" python benchmarks/plugin.py --size 2048

Prints per move of a threshold: cut + write + refresh call (bar: 50 ms at 2048²) and the draw beside
it, with the renderer's name; and the longest that the event loop stood still while a model was
loaded, an image segmented, a slider moved and a cell corrected (aim: 100 ms).
"""

import argparse
import json
import time

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from skimage.filters import gaussian
from torch import nn

from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.small import SmallDecoderConfig, SmallEncoderConfig
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.widgets.engine import Engine
from napari_dinocell.widgets.segment_panel import SegmentPanel


class Brightness(nn.Module):
    """The map is the image: benchmarks of the viewer need no network."""

    def forward(self, x):
        """(B, C, Y, X) -> (B, 1, Y, X)."""
        return x.mean(1, keepdim=True).clamp(0, 1)


def cells(size, seed=0):
    """A noisy plane with about one cell per 46² px."""
    rng = np.random.default_rng(seed)
    pitch = 46
    y, x = np.mgrid[:size, :size]
    shift = gaussian(rng.normal(0, 60, (size, size)), 30) * 20
    map_ = 1 - np.hypot((y + shift) % pitch - pitch / 2, (x - shift) % pitch - pitch / 2) / 22
    noise = gaussian(rng.normal(0, 1, (size, size)), 1.0)
    return (1000 + 20000 * np.clip(map_ + 0.05 * noise, 0, 1)).astype(np.uint16)


class Watchdog:
    """Longest time between two turns of the event loop."""

    def __init__(self):
        self.last, self.worst = time.perf_counter(), 0.0
        self.timer = QTimer()
        self.timer.setInterval(0)
        self.timer.timeout.connect(self.tick)
        self.timer.start()

    def tick(self):
        """Called by every turn of the event loop."""
        now = time.perf_counter()
        self.worst = max(self.worst, now - self.last)
        self.last = now

    def reset(self):
        """Begin to measure."""
        self.last, self.worst = time.perf_counter(), 0.0


def until(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        QApplication.processEvents()
        if time.monotonic() > end:
            raise TimeoutError


def renderer():
    from OpenGL import GL  # noqa: PLC0415  # needs the viewer's context

    name = GL.glGetString(GL.GL_RENDERER)
    return name.decode() if name else "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--moves", type=int, default=30)
    arguments = parser.parse_args()
    architecture = {
        "encoder": SmallEncoderConfig().model_dump(mode="json"),
        "decoder": SmallDecoderConfig().model_dump(mode="json"),
    }
    card = ModelCard(
        name="brightness",
        architecture=architecture,
        peak=0.5,
        fill=0.15,
        diameter=40.0,
        min_area=30,
        min_prominence=0.02,
    )
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    viewer.add_image(cells(arguments.size), name="cells")
    until(lambda: True)
    blocks = {}
    dog = Watchdog()
    panel = SegmentPanel(viewer, Engine(extra={"brightness": Segmenter(Brightness(), card, "cpu")}))
    viewer.window.add_dock_widget(panel, name="Segment cells")
    until(lambda: panel.form.model.value)
    panel.form.model.value = "brightness"
    until(panel.button.isEnabled)
    blocks["open and load"] = dog.worst
    dog.reset()
    panel.button.click()
    until(lambda: panel.preview is not None and panel.preview.is_following)
    until(lambda: panel.preview._job is None)
    blocks["segment"] = dog.worst
    preview = panel.preview
    moves = {"peak": [], "fill": [], "min_area": []}
    draws = []
    rng = np.random.default_rng(1)
    dog.reset()
    for name, taken in moves.items():
        for _ in range(arguments.moves // 3):
            values = {"peak": preview.peak, "fill": preview.fill, "min_area": preview.min_area}
            values[name] = {
                "peak": rng.uniform(0.3, 0.8),
                "fill": rng.uniform(0.05, 0.25),
                "min_area": int(rng.integers(0, 400)),
            }[name]
            start = time.perf_counter()
            preview.move(**values)
            taken.append(time.perf_counter() - start)
            start = time.perf_counter()
            QApplication.processEvents()
            draws.append(time.perf_counter() - start)
    blocks["slide"] = dog.worst
    n_cells = len(preview.last_cut.ids)
    dog.reset()
    panel.results.tools.take("Delete")
    panel.results.tools.apply([(60.0, 60.0), (60.0, 200.0)])
    panel.results.tools.put_away()
    until(lambda: True)
    QApplication.processEvents()
    blocks["correct"] = dog.worst
    start = time.perf_counter()
    preview.move(0.5, 0.15, 30)
    corrected = time.perf_counter() - start
    median = {name: round(1000 * float(np.median(taken)), 1) for name, taken in moves.items()}
    print(
        json.dumps(
            {
                "plane": [arguments.size] * 2,
                "cells": n_cells,
                "renderer": renderer(),
                "move_ms_median": median,
                "move_ms_worst": round(1000 * max(max(taken) for taken in moves.values()), 1),
                "move_ms_with_corrections": round(1000 * corrected, 1),
                "draw_ms_median": round(1000 * float(np.median(draws)), 1),
                "longest_block_ms": {name: round(1000 * worst) for name, worst in blocks.items()},
            },
            indent=1,
        )
    )
    viewer.close()


if __name__ == "__main__":
    main()
