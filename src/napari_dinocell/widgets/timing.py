"""How long a run will take: tiles to be computed, and the pace of the ones before."""

from __future__ import annotations

import json
import logging
import math
import platform
from pathlib import Path

import platformdirs

from napari_dinocell.core.errors import OutputFileError
from napari_dinocell.core.writing import whole_file

__all__ = ["count_tiles", "recall", "remember", "time_text"]

log = logging.getLogger(__name__)


def count_tiles(shape: tuple[int, int], scale: float, tile: int, overlap: int) -> int:
    """Tiles that cover a plane.

    Parameters
    ----------
    shape : (int, int)
        Of the plane, px.
    scale : float
        Pixels of the network per pixel of the plane.
    tile, overlap : int
        Side of a tile, and what neighbors share, px of the network.
    """
    return math.prod(
        max(1, math.ceil((math.ceil(length * scale) - overlap) / (tile - overlap)))
        for length in shape
    )


def time_text(seconds: float) -> str:
    """A duration as people say it: `8 s`, `2 min`, `1.5 h`."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def recall(model: str, device: str) -> float | None:
    """Seconds per tile that a model took on a device of this computer; None if it never ran."""
    value = _read().get(_key(model, device))
    return float(value) if isinstance(value, int | float) and value > 0 else None


def remember(model: str, device: str, seconds: float) -> None:
    """Keep the seconds per tile for the next session; without a word if that cannot be done."""
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            paces = _read() | {_key(model, device): seconds}
            temporary.write_text(json.dumps(paces, indent=1), encoding="utf-8")
    except (OSError, OutputFileError) as error:
        # Only an estimate is lost, which is measured anew next time.
        log.info("The pace of %s was not kept: %s", model, error)


def _path() -> Path:
    return Path(platformdirs.user_state_path("napari-dinocell")) / "paces.json"


def _key(model: str, device: str) -> str:
    # Home folders are shared between computers.
    return f"{platform.node()} {device} {model}"


def _read() -> dict[str, object]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
