"""What the panels do on the worker's thread: look for models, load one, segment with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import napari_dinocell
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.parts import LayerPart
from napari_dinocell.widgets.planes import plane_view
from napari_dinocell.widgets.timing import count_tiles, recall, remember
from napari_dinocell.widgets.warm_up import (
    load_libraries,
    prepare_labels,
    without_garbage_collection,
)

if TYPE_CHECKING:
    # Importing these takes a second or two: they are loaded by the first job, not by the window.
    from napari_dinocell.core.model.card import ModelCard
    from napari_dinocell.core.prediction import Prediction
    from napari_dinocell.core.segmenter import Segmenter

__all__ = ["Choice", "Engine", "Ready", "Result", "leave_a_core_to_the_window"]

_LOOKS = 3  # tiles that an estimate mostly takes, see `core.diameter`, which takes numba
_ENOUGH_TILES = 4  # whose mean pace says more than one tile alone


@dataclass(frozen=True)
class Choice:
    """A model that can be chosen."""

    name: str
    diameter: float
    pixel_size_um: float | None
    tile: int = 256
    overlap: int = 64


@dataclass(frozen=True)
class Ready:
    """A model that is loaded.

    Attributes
    ----------
    choice : Choice
    device : str
        That it runs on.
    seconds_per_tile : float
        Measured on this computer, in this session or an earlier one.
    note : str
        What the user should know about the device; may be empty.
    """

    choice: Choice
    device: str
    seconds_per_tile: float
    note: str = ""

    def is_estimated(self, part: LayerPart, diameter: float | str | None) -> bool:
        """Whether a run begins with a look at the size of the cells."""
        return diameter == "auto" and not (part.pixel_size_um and self.choice.pixel_size_um)

    def seconds(self, part: LayerPart, diameter: float | str | None) -> float:
        """Expected duration of a run; with an estimate as if that came to the model's diameter."""
        scale, looks = 1.0, 0
        if isinstance(diameter, float):
            scale = self.choice.diameter / diameter
        elif self.is_estimated(part, diameter):
            looks = _LOOKS
        elif diameter == "auto" and part.pixel_size_um and self.choice.pixel_size_um:
            scale = float(np.sqrt(np.prod(part.pixel_size_um))) / self.choice.pixel_size_um
        tiles = count_tiles(part.plane_shape, scale, self.choice.tile, self.choice.overlap)
        return (part.n_planes * tiles + looks) * self.seconds_per_tile


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
    _loaded: dict[tuple[str, str], tuple[Segmenter, Ready, int]] = field(default_factory=dict)

    def choices(self) -> tuple[list[Choice], list[str], str]:
        """Models, devices, and the name of the model that suits the fastest device."""
        prepare_labels()
        load_libraries()
        with without_garbage_collection():
            for module in ("segmenter", "measure", "corrections", "model.manage"):
                _core(module)
        device = _core("device")
        cards = [card for _, _, card in _core("model.manage").installed()]
        cards += [segmenter.card for segmenter in self.extra.values()]
        devices = ["auto", *device.available_devices()]
        preferred = "small" if devices[1] == "cpu" else "vits8"
        names = [card.name for card in cards]
        default = preferred if preferred in names else names[0] if names else ""
        return [_choice(card) for card in cards], devices, default

    def load(self, name: str, device: str) -> Ready:
        """Load a model, unless it is there, and measure its speed."""
        key, stamp = (name, device), _stamp(name)
        if key not in self._loaded or self._loaded[key][2] != stamp:
            with without_garbage_collection():
                segmenter = self._segmenter(name, device)
                _core("instances").warm_up()
                _core("precedence").warm_up()
            kind = segmenter.device.type
            note = (
                "⚠ No GPU was found: the CPU is used." if device == "auto" and kind == "cpu" else ""
            )
            where = str(segmenter.device)
            pace = recall(name, where) or _seconds_per_tile(segmenter)
            ready = Ready(_choice(segmenter.card), where, pace, note)
            # One model at a time: on a GPU a second one would take memory from the first.
            self._loaded = {key: (segmenter, ready, stamp)}
        return self._loaded[key][1]

    def _segmenter(self, name: str, device: str) -> Segmenter:
        if name in self.extra:
            return self.extra[name]
        leave_a_core_to_the_window()
        return napari_dinocell.Segmenter.from_pretrained(name, device)

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
        maps_folder: Path | None = None,
    ) -> Steps:
        """Steps of a run; give a `Result` and a `Ready` with the pace of this run.

        Maps too large for memory go to `maps_folder`; None: to that of temporary files.
        """
        yield f"Loading {name} …"
        self.load(name, device)
        segmenter, ready, stamp = self._loaded[name, device]
        segmenter.maps_folder = maps_folder
        yield "Reading …"
        start = time.monotonic()
        ranges = list(_ranges(part, segmenter.card, channel, ticket)) if part.is_region else None
        look = "Looking at the size of the cells, then segmenting …"
        yield look if diameter == "auto" else "Segmenting …"
        prediction = segmenter.predict(
            part.image(),
            channel=channel,
            diameter=diameter,
            ranges=ranges,
            progress=ticket.progress,
            cancel=ticket.cancel,
        )
        if ticket.total >= _ENOUGH_TILES:
            pace = (time.monotonic() - ticket.started) / ticket.total
            ready = replace(ready, seconds_per_tile=pace)
            self._loaded[name, device] = (segmenter, ready, stamp)
            remember(name, ready.device, pace)
        yield "Cutting …"
        labels = np.zeros(prediction.shape, np.uint16)
        for plane in range(prediction.n_planes):
            if ticket.cancel():
                prediction.close()
                raise _core("errors").Cancelled("Cancelled.")
            cells = prediction.cut(plane).labels
            if int(cells.max(initial=0)) > np.iinfo(labels.dtype).max:
                labels = labels.astype(np.int32)
            plane_view(labels, prediction, plane)[...] = cells
            yield None
        seconds = time.monotonic() - start
        provenance = prediction.provenance() | {
            "image": part.name,
            "image_axes": part.axes,
            "level": part.level,
            "window": [[s.start, s.stop] for s in part.window],
            "channel": channel,
            "diameter": diameter,
        }
        if part.others:
            provenance["together_with"] = list(part.other_names)
        return Result(prediction, part, labels, seconds, provenance), ready


def cut_planes(
    prediction: Prediction, planes: Any, thresholds: dict[str, Any]
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """Labels of several planes, one after the other, each (Y, X) int32."""
    for plane in planes:
        yield plane, prediction.cut(plane, **thresholds).labels.astype(np.int32, copy=False)


def _choice(card: ModelCard) -> Choice:
    return Choice(card.name, card.diameter, card.pixel_size_um, card.tile, card.overlap)


def _stamp(name: str) -> int:
    """Changes when the file of an own model is another one; 0 for other models."""
    try:
        return int(_core("model.own").own_model_path(name).stat().st_mtime_ns)
    except (ValueError, OSError):
        return 0


def leave_a_core_to_the_window() -> None:
    """Let the networks of this process take all cores but one; called on a worker's thread."""
    import_module("torch").set_num_threads(max(1, (os.cpu_count() or 2) - 1))


def _ranges(part: LayerPart, card: ModelCard, channel: int | None, ticket: Ticket) -> Iterator[Any]:
    """Gray values of the whole planes, so that a region gives the cells that the image gives."""
    job = _core("job").ImageJob(card, part.whole_image(), channel)
    for plane in range(part.n_planes):
        if ticket.cancel():
            raise _core("errors").Cancelled("Cancelled.")
        yield job.range_of(plane)


def _seconds_per_tile(segmenter: Segmenter) -> float:
    """Duration of one tile of bright discs; of the second one unless that takes long."""
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
    return seconds


def _core(name: str) -> Any:
    return import_module(f"napari_dinocell.core.{name}")
