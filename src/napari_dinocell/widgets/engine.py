"""What the panels do on the worker's thread: look for models, load one, segment with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import napari_dinocell
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.layers import LayerPart

if TYPE_CHECKING:
    # Importing these takes a second or two: they are loaded by the first job, not by the window.
    from napari_dinocell.core.model.card import ModelCard
    from napari_dinocell.core.prediction import Prediction
    from napari_dinocell.core.segmenter import Segmenter

__all__ = ["Choice", "Engine", "Ready", "Result", "plane_view", "shown_dtype"]

_UINT16 = 65535


@dataclass(frozen=True)
class Choice:
    """A model that can be chosen."""

    name: str
    diameter: float
    pixel_size_um: float | None


@dataclass(frozen=True)
class Ready:
    """A model that is loaded.

    Attributes
    ----------
    choice : Choice
    device : str
        That it runs on.
    seconds_per_megapixel : float
        Of the network's input, measured on this computer.
    note : str
        What the user should know about the device; may be empty.
    """

    choice: Choice
    device: str
    seconds_per_megapixel: float
    note: str = ""

    def seconds(self, part: LayerPart, diameter: float | None) -> float:
        """Expected duration of a run."""
        scale = 1.0
        if diameter:
            scale = self.choice.diameter / diameter
        elif part.pixel_size_um and self.choice.pixel_size_um:
            scale = float(np.sqrt(np.prod(part.pixel_size_um))) / self.choice.pixel_size_um
        height, width = (max(length * scale, 256.0) for length in part.plane_shape)
        return part.n_planes * height * width * 1e-6 * self.seconds_per_megapixel


@dataclass(frozen=True, eq=False)
class Result:
    """What a run gives.

    Attributes
    ----------
    prediction : Prediction
    part : LayerPart
        What was segmented.
    labels : int array of `part.shape`
        Cut with the model's own thresholds; uint16 if the ids fit.
    seconds : float
        That the run took.
    provenance : dict
        Plain values that reproduce the labels.
    """

    prediction: Prediction
    part: LayerPart
    labels: npt.NDArray[np.integer]
    seconds: float
    provenance: dict[str, Any]


@dataclass
class Engine:
    """Models of one panel. All methods run on a worker's thread, one at a time.

    Attributes
    ----------
    extra : dict of str to Segmenter
        Models that are there beside the bundled ones.
    """

    extra: dict[str, Segmenter] = field(default_factory=dict)
    _loaded: dict[tuple[str, str], tuple[Segmenter, Ready]] = field(default_factory=dict)

    def choices(self) -> tuple[list[Choice], list[str], str]:
        """Models, devices, and the name of the model that suits the fastest device."""
        # napari imports pandas with the first Labels layer; here nobody waits for it.
        import_module("pandas")
        files = _core("model.files")
        device = _core("device")
        cards = [files.read_card(name) for name in files.bundled_models()]
        cards += [segmenter.card for segmenter in self.extra.values()]
        devices = ["auto", *device.available_devices()]
        preferred = "small" if devices[1] == "cpu" else "vits8"
        names = [card.name for card in cards]
        default = preferred if preferred in names else names[0] if names else ""
        return [_choice(card) for card in cards], devices, default

    def load(self, name: str, device: str) -> Ready:
        """Load a model, unless it is there, and measure its speed."""
        key = (name, device)
        if key not in self._loaded:
            if name in self.extra:
                segmenter = self.extra[name]
            else:
                _leave_a_core_to_the_window()
                segmenter = napari_dinocell.Segmenter.from_pretrained(name, device)
            kind = segmenter.device.type
            note = (
                "No GPU was found: the CPU is used." if device == "auto" and kind == "cpu" else ""
            )
            speed = _seconds_per_megapixel(segmenter)
            _core("instances").warm_up()
            _core("precedence").warm_up()
            ready = Ready(_choice(segmenter.card), str(segmenter.device), speed, note)
            # One model at a time: on a GPU a second one would take memory from the first.
            self._loaded = {key: (segmenter, ready)}
        return self._loaded[key][1]

    def ready(self, name: str, device: str) -> Steps:
        """Steps that load a model; give a `Ready`."""
        yield f"Loading {name} …"
        return self.load(name, device)

    def segment(
        self,
        ticket: Ticket,
        part: LayerPart,
        name: str,
        device: str,
        channel: int | None,
        diameter: float | str | None,
    ) -> Steps:
        """Steps of a run; give a `Result` and a `Ready` with the pace of this run."""
        yield f"Loading {name} …"
        self.load(name, device)
        segmenter, ready = self._loaded[name, device]
        yield "Reading …"
        image = part.image()
        yield "Segmenting …"
        start = time.monotonic()
        prediction = segmenter.predict(
            image,
            channel=channel,
            diameter=diameter,
            progress=ticket.progress,
            cancel=ticket.cancel,
        )
        pace = time.monotonic() - start
        yield "Cutting …"
        labels = np.zeros(prediction.shape, np.uint16)
        for plane, cells in cut_planes(prediction, range(prediction.n_planes), {}):
            if ticket.cancel():
                prediction.close()
                raise _core("errors").Cancelled("Cancelled.")
            view = plane_view(labels, prediction, plane)
            highest = int(cells.max(initial=0))
            if highest > np.iinfo(labels.dtype).max:
                labels = labels.astype(np.int32)
                view = plane_view(labels, prediction, plane)
            view[...] = cells
            yield None
        seconds = time.monotonic() - start
        megapixels = max(part.n_planes * np.prod(part.plane_shape) * prediction.scale**2, 1) * 1e-6
        if megapixels > 0.2:
            ready = replace(ready, seconds_per_megapixel=pace / megapixels)
            self._loaded[name, device] = (segmenter, ready)
        provenance = prediction.provenance() | {
            "image": part.name,
            "image_axes": part.axes,
            "window": [[s.start, s.stop] for s in part.window],
            "channel": channel,
            "diameter": diameter,
        }
        return Result(prediction, part, labels, seconds, provenance), ready


def cut_planes(
    prediction: Prediction, planes: Any, thresholds: dict[str, Any]
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """Labels of several planes, one after the other, each (Y, X) int32."""
    for plane in planes:
        yield plane, prediction.cut(plane, **thresholds).labels.astype(np.int32, copy=False)


def plane_view(
    labels: npt.NDArray[np.integer], prediction: Prediction, plane: int
) -> npt.NDArray[np.integer]:
    """(Y, X) view of one plane in labels with the axes of a prediction."""
    index = prediction.indices[plane]
    view = labels[tuple(index.get(axis, slice(None)) for axis in prediction.axes)]
    return view.T if prediction.axes.index("X") < prediction.axes.index("Y") else view


def shown_dtype(highest: int) -> type[np.uint16] | type[np.int32]:
    """Type for labels on screen: napari draws uint16 as it is, wider types fifty times slower."""
    return np.uint16 if highest <= _UINT16 else np.int32


def _choice(card: ModelCard) -> Choice:
    return Choice(card.name, card.diameter, card.pixel_size_um)


def _leave_a_core_to_the_window() -> None:
    import_module("torch").set_num_threads(max(1, (os.cpu_count() or 2) - 1))


def _seconds_per_megapixel(segmenter: Segmenter) -> float:
    """Duration of one tile, on a plane of bright discs; of the second one unless that takes long."""
    side = segmenter.card.tile
    y, x = np.mgrid[:side, :side] % 32 - 16
    plane = (np.hypot(y, x) < 10).astype(np.float32)
    seconds = float("inf")
    for _ in range(2):
        start = time.monotonic()
        segmenter.predict(plane, diameter=segmenter.card.diameter).close()
        seconds = min(seconds, time.monotonic() - start)
        if seconds > 1:
            break
    # Neighboring tiles share their overlap.
    return seconds / ((side - segmenter.card.overlap) ** 2 * 1e-6)


def _core(name: str) -> Any:
    return import_module(f"napari_dinocell.core.{name}")
