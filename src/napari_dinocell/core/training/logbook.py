"""What a run writes down: a JSONL file, a line on the terminal, Weights & Biases if asked for."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["online", "offline", "disabled"]

logger = logging.getLogger(__name__)


class Logbook:
    """Log of one run.

    Numbers go to ``log.jsonl`` in the run's folder (appended, one object a line), and to Weights &
    Biases unless that is disabled. Histograms and pictures go to the latter alone.

    Parameters
    ----------
    folder : Path
        The run's folder.
    total : int
        Number of steps, for the time left.
    wandb : {"online", "offline", "disabled"}
        Mode of Weights & Biases.
    project, name : str
        Its project and run name.
    config : dict
        Resolved configuration, stored with the run.
    shown : sequence of str, optional
        Numbers that the terminal shows; all by default.

    Raises
    ------
    ImportError
        If Weights & Biases is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        total: int,
        *,
        wandb: Mode = "disabled",
        project: str = "napari-dinocell",
        name: str = "",
        config: dict[str, Any] | None = None,
        shown: Sequence[str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._total, self._shown = total, shown
        self._begin: tuple[int, float] | None = None  # step and time of the first entry
        self._run = (
            _start_wandb(folder, wandb, project, name, config) if wandb != "disabled" else None
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record numbers of a step."""
        json.dump({"step": step, "time": round(time.time(), 3), **values}, self._file)
        self._file.write("\n")
        self._file.flush()
        if self._run is not None:
            self._run.log(values, step=step)
        names = values if self._shown is None else [key for key in self._shown if key in values]
        shown = "  ".join(f"{key} {values[key]:.4g}" for key in names)
        if shown:
            logger.info("step %d/%d  %s  %s left", step, self._total, shown, self._time_left(step))

    def histograms(self, step: int, values: dict[str, NDArray[np.floating[Any]]]) -> None:
        """Record distributions, such as gradients by module."""
        if self._run is not None:
            import wandb  # noqa: PLC0415  optional extra

            self._run.log({k: wandb.Histogram(v.tolist()) for k, v in values.items()}, step=step)

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Record a picture (Y, X, 3)."""
        if self._run is not None:
            import wandb  # noqa: PLC0415  optional extra

            self._run.log({name: wandb.Image(image)}, step=step)

    @property
    def wants_pictures(self) -> bool:
        """True when histograms and pictures are kept."""
        return self._run is not None

    def close(self) -> None:
        """Finish the log."""
        self._file.close()
        if self._run is not None:
            self._run.finish()

    def _time_left(self, step: int) -> str:
        if self._begin is None:
            self._begin = step, time.monotonic()
        first, start = self._begin
        if step == first:
            return "?"
        seconds = int((time.monotonic() - start) / (step - first) * (self._total - step))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _start_wandb(
    folder: Path, mode: Mode, project: str, name: str, config: dict[str, Any] | None
) -> Any:
    try:
        import wandb  # noqa: PLC0415  optional extra
    except ImportError as error:
        raise ImportError(
            'Logging to Weights & Biases needs the package wandb; install "napari-dinocell[train]" '
            "or set wandb=disabled."
        ) from error
    # The id is the folder's name, so that a resumed run goes on in the same place.
    return wandb.init(
        dir=folder,
        mode=mode,
        project=project,
        name=name,
        config=config,
        id=folder.name,
        resume="allow",
    )
