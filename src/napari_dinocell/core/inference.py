"""The network over the tiles of many planes: batches, out-of-memory, progress, cancellation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_dinocell.core.device import is_out_of_memory
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.intensity import PlaneLike
from napari_dinocell.core.tiles import Blender, TileGrid

__all__ = [
    "Cancel",
    "PlaneTask",
    "Progress",
    "Report",
    "TileNetwork",
    "check_cancel",
    "run_tiles",
    "whole_map",
]

Cancel = Callable[[], bool]
Progress = Callable[[int, int], Any]
Tiles = npt.NDArray[np.float32]


class Network(Protocol):
    """What inference needs of a network: (B, 1 or 3, Y, X) -> (B, 1, Y, X) in [0, 1]."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Distance maps of normalized tiles."""


@dataclass
class PlaneTask:
    """A plane on its way through the network.

    Attributes
    ----------
    plane : (Y, X) or (Y, X, 3) array-like
        Normalized, at the network's scale; None where there is nothing to see.
    grid : TileGrid
        Of that plane.
    blender : Blender
        Takes the maps of the tiles.
    """

    plane: PlaneLike | None
    grid: TileGrid
    blender: Blender

    @property
    def n_tiles(self) -> int:
        """Tiles that go through the network."""
        return 0 if self.plane is None else len(self.grid)

    @property
    def is_done(self) -> bool:
        """Whether the whole map was handed on."""
        return self.plane is None or self.blender.is_done

    def read(self, index: int) -> Tiles:
        """Return one tile as (1 or 3, Y, X)."""
        assert self.plane is not None
        tile = np.asarray(self.grid.read(self.plane, index), np.float32)
        return tile[None] if tile.ndim == 2 else tile.transpose(2, 0, 1)


class TileNetwork:
    """A network on its device that halves the batch when memory runs out, and goes on.

    Parameters
    ----------
    network : callable
        In evaluation mode, on `device`.
    device : torch.device
    batch_size : int
        Most tiles in one pass; lowered for good after an out-of-memory error.
    """

    def __init__(self, network: Network, device: torch.device, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"Batch size is {batch_size}; it must be at least 1.")
        self.network = network
        self.device = device
        self.batch_size = batch_size

    def __call__(self, tiles: Tiles) -> Tiles:
        """(B, 1 or 3, Y, X) normalized tiles -> (B, Y, X) float32 maps in [0, 1].

        Raises
        ------
        MemoryError
            If even one tile is too much.
        """
        maps: list[Tiles] = []
        start = 0
        while start < len(tiles):
            batch = tiles[start : start + self.batch_size]
            try:
                maps.append(self._forward(batch))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    size = f"{tiles.shape[-2]} x {tiles.shape[-1]} px"
                    raise MemoryError(
                        f"One tile of {size} does not fit into the memory of {self.device}; "
                        "free some, or choose the CPU or a smaller model."
                    ) from error
                self.batch_size = len(batch) // 2
            else:
                start += len(batch)
                continue
            # Outside the handler: the traceback there would keep the failed pass' tensors alive.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return np.concatenate(maps)

    def _forward(self, batch: Tiles) -> Tiles:
        with torch.inference_mode():
            x = torch.from_numpy(batch).to(self.device)
            maps: Tiles = self.network(x)[:, 0].float().cpu().numpy()
        return maps


@dataclass
class _Queue:
    """Tiles that wait for company of their shape."""

    tasks: list[PlaneTask] = field(default_factory=list)
    tiles: list[Tiles] = field(default_factory=list)


def run_tiles(
    tasks: Iterable[PlaneTask],
    network: TileNetwork,
    cancel: Cancel | None = None,
    advance: Callable[[int], Any] | None = None,
) -> Iterator[PlaneTask]:
    """Run planes through the network; a batch holds tiles of any planes that have one shape.

    Parameters
    ----------
    tasks : iterable of PlaneTask
        Drawn when needed: about four batches of planes are open at a time.
    network : TileNetwork
    cancel : callable, optional
        Asked before each tile is read and each batch is run.
    advance : callable, optional
        `advance(n)` after n more tiles.

    Yields
    ------
    PlaneTask
        Each when it is done, in the order of `tasks`.

    Raises
    ------
    Cancelled
        When `cancel()` returned True.
    """
    queues: dict[tuple[int, ...], _Queue] = {}
    pending: deque[PlaneTask] = deque()

    def flush(shape: tuple[int, ...]) -> None:
        queue = queues.pop(shape)
        check_cancel(cancel)
        for task, map_ in zip(queue.tasks, network(np.stack(queue.tiles)), strict=True):
            task.blender.add(map_)
        if advance is not None:
            advance(len(queue.tasks))

    for task in tasks:
        pending.append(task)
        for index in range(task.n_tiles):
            check_cancel(cancel)
            tile = task.read(index)
            queue = queues.setdefault(tile.shape, _Queue())
            queue.tasks.append(task)
            queue.tiles.append(tile)
            if len(queue.tiles) >= network.batch_size:
                flush(tile.shape)
        if len(pending) > 4 * network.batch_size:
            # Rare shapes must not hold up the rest for ever.
            for shape in [s for s, queue in queues.items() if pending[0] in queue.tasks]:
                flush(shape)
        while pending and pending[0].is_done:
            yield pending.popleft()
    for shape in list(queues):
        flush(shape)
    yield from pending


def whole_map(
    plane: PlaneLike, network: TileNetwork, tile: int, overlap: int, cancel: Cancel | None = None
) -> npt.NDArray[np.float32]:
    """Map (Y, X) of a normalized plane that fits into memory; see `TileGrid` and `run_tiles`."""
    map_ = np.zeros(plane.shape[:2], np.float32)

    def sink(top: int, rows: npt.NDArray[Any]) -> None:
        map_[top : top + len(rows)] = rows

    grid = TileGrid(plane.shape[0], plane.shape[1], tile, overlap)
    for _ in run_tiles([PlaneTask(plane, grid, Blender(grid, sink))], network, cancel):
        pass
    return map_


def check_cancel(cancel: Cancel | None) -> None:
    """Raise `Cancelled` if the caller asks to stop."""
    if cancel is not None and cancel():
        raise Cancelled("Cancelled; nothing was written.")


class Report:
    """Turns "n more" into "done of total", beginning with 0."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self.advance(0)

    def advance(self, count: int) -> None:
        """Add `count` to what is done."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)
