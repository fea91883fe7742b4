"""What a hand at a slider waits for, in a real viewer with a real event loop.

    xvfb-run -s "-screen 0 1400x900x24" python benchmarks/plugin.py --size 2048

Prints per move of a threshold: cut + write + refresh call (bar: 50 ms at 2048²) and the draw beside
it, with the renderer's name; and the longest that the event loop stood still while a model was
loaded, an image segmented, a slider moved, a cell corrected and a file written (aim: 100 ms).
Beside it stands what napari itself needs to add one more empty layer of labels, which happens once
per run and at the first correction, and which no plugin can split. On a busy computer the time
that the window's thread computes tells more than the clock, and that of the other threads shows
where they kept it from going on.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from skimage.filters import gaussian

from napari_dinocell.widgets.engine import Engine
from napari_dinocell.widgets.segment_panel import SegmentPanel


def brightness():
    """A model whose map is the image: benchmarks of the viewer need no network."""
    # Torch is loaded by the panel, as for a user, before this is called.
    from torch import nn  # noqa: PLC0415

    from napari_dinocell.core.model.card import ModelCard  # noqa: PLC0415
    from napari_dinocell.core.model.small import (  # noqa: PLC0415
        SmallDecoderConfig,
        SmallEncoderConfig,
    )
    from napari_dinocell.core.segmenter import Segmenter  # noqa: PLC0415

    class Brightness(nn.Module):
        def forward(self, x):
            """(B, C, Y, X) -> (B, 1, Y, X)."""
            return x.mean(1, keepdim=True).clamp(0, 1)

    card = ModelCard(
        name="brightness",
        architecture={
            "encoder": SmallEncoderConfig().model_dump(mode="json"),
            "decoder": SmallDecoderConfig().model_dump(mode="json"),
        },
        peak=0.5,
        fill=0.15,
        diameter=40.0,
        min_area=30,
        min_prominence=0.02,
        confidence={"intercept": -3.0, "height": 1.0, "prominence": 3.0, "mean": 5.0},
    )
    return Segmenter(Brightness(), card, "cpu")


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
    """Longest time between two turns of the event loop: by the clock, its thread's, and others'."""

    def __init__(self):
        self.reset()
        self.timer = QTimer()
        self.timer.setInterval(0)
        self.timer.timeout.connect(self.tick)
        self.timer.start()

    def tick(self):
        """Called by every turn of the event loop."""
        now = self._times()
        self.longest = np.maximum(self.longest, now - self._last)
        self._last = now

    def reset(self):
        """Begin to measure."""
        self._last = self._times()
        self.longest = np.zeros(3)

    def milliseconds(self):
        """By the clock, and what the thread of the window and the others computed at most."""
        names = ("clock", "computing", "others")
        return {name: round(1000 * t) for name, t in zip(names, self.longest, strict=True)}

    def _times(self):
        own = time.thread_time()
        return np.array([time.perf_counter(), own, time.process_time() - own])


class Moves:
    """Durations of moves of a slider: by the clock, and what the thread of the window computed."""

    def __init__(self):
        self.taken = []

    def take(self, move):
        """Make one."""
        clock, computing = time.perf_counter(), time.thread_time()
        move()
        self.taken.append((time.perf_counter() - clock, time.thread_time() - computing))

    def milliseconds(self):
        """Medians, and the worst by the clock."""
        clock, computing = 1000 * np.transpose(self.taken)
        return {
            "clock": round(float(np.median(clock)), 1),
            "computing": round(float(np.median(computing)), 1),
            "worst": round(float(clock.max()), 1),
        }


def until(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        QApplication.processEvents()
        if time.monotonic() > end:
            raise TimeoutError


def turn(times):
    """Let the event loop turn."""
    for _ in range(times):
        QApplication.processEvents()


def renderer():
    from OpenGL import GL  # noqa: PLC0415  # needs the viewer's context

    name = GL.glGetString(GL.GL_RENDERER)
    return name.decode() if name else "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--moves", type=int, default=30)
    arguments = parser.parse_args()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    viewer.add_image(cells(arguments.size), name="cells")
    until(lambda: True)
    blocks = {}
    dog = Watchdog()
    engine = Engine()
    panel = SegmentPanel(viewer, engine)
    viewer.window.add_dock_widget(panel, name="Segment cells")
    until(panel.button.isEnabled)
    blocks["open and load"] = dog.milliseconds()
    engine.extra["brightness"] = brightness()
    panel.take_model("brightness")
    until(lambda: panel.form.model.value == "brightness" and panel.button.isEnabled())
    turn(3)
    dog.reset()
    panel.button.click()
    until(lambda: panel.preview is not None and panel.preview.is_following)
    until(lambda: panel.preview._job is None)
    blocks["segment"] = dog.milliseconds()
    preview = panel.preview
    moves = {name: Moves() for name in ("peak", "fill", "min_area", "min_confidence")}
    draws = []
    rng = np.random.default_rng(1)
    dog.reset()
    for name, taken in moves.items():
        for _ in range(arguments.moves // 4):
            values = {**preview.values(), "min_confidence": preview.min_confidence}
            values[name] = {
                "peak": rng.uniform(0.3, 0.8),
                "fill": rng.uniform(0.05, 0.25),
                "min_area": int(rng.integers(0, 400)),
                "min_confidence": rng.uniform(0, 0.9),
            }[name]
            taken.take(lambda values=values: preview.move(**values))
            start = time.perf_counter()
            QApplication.processEvents()
            draws.append(time.perf_counter() - start)
    blocks["slide"] = dog.milliseconds()
    n_cells = len(preview.last_cut.ids)
    tools = panel.results.tools
    for name, y in (("first", 60.0), ("next", 160.0)):
        turn(3)
        dog.reset()
        tools.take("Delete")
        turn(3)
        blocks[f"{name} tool in hand"] = dog.milliseconds()
        dog.reset()
        tools.apply([(y, 60.0), (y, 200.0)])
        tools.put_away()
        turn(3)
        blocks[f"{name} correction"] = dog.milliseconds()
    for name in ("with corrections", "colored by confidence"):
        panel.results.sliders.color.setChecked(name == "colored by confidence")
        taken = moves[name] = Moves()
        for _ in range(arguments.moves // 4):
            taken.take(lambda: preview.move(rng.uniform(0.3, 0.8), 0.15, 30))
            turn(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.ome.tif"
        dog.reset()
        panel.results.export("labels", path)
        until(path.exists)
        blocks["export"] = dog.milliseconds()
    until(lambda: preview._job is None)
    floor = []
    for _ in range(3):
        dog.reset()
        viewer.add_layer(napari.layers.Labels(np.zeros((arguments.size,) * 2, np.uint16)))
        turn(3)
        floor.append(dog.milliseconds())
    print(
        json.dumps(
            {
                "plane": [arguments.size] * 2,
                "cells": n_cells,
                "renderer": renderer(),
                "move_ms": {name: taken.milliseconds() for name, taken in moves.items()},
                "draw_ms_median": round(1000 * float(np.median(draws)), 1),
                "longest_block_ms": blocks,
                "napari_adds_a_layer_ms": floor,
            },
            indent=1,
        )
    )
    viewer.close()


if __name__ == "__main__":
    main()
