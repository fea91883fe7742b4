"""Checkpoints: written whole or not at all, the newest good one found again.

A checkpoint is a dictionary of tensors and plain values, so that it loads without unpickling code.
"""

import logging
import os
import pickle
import platform
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import psutil
import torch

from napari_dinocell import __version__

logger = logging.getLogger(__name__)


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``checkpoint-<step>.pt`` and remove all but the newest `keep` ones.

    The file is written beside its final name, flushed to the disk and renamed: a process that is
    killed leaves the older checkpoints as they were, and what it had written to the next `save`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{step:07d}.pt"
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            torch.save({**state, "step": step, "environment": environment()}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    for old in [*_by_age(folder)[:-keep], *_abandoned(folder)]:
        old.unlink(missing_ok=True)
    return path


def load(resume: str, folder: Path) -> dict[str, Any] | None:
    """Return the checkpoint to go on from, or None for a new run.

    Parameters
    ----------
    resume : str
        ``auto``: the newest checkpoint of `folder` that can be read; ``never``: None; otherwise
        the path of one.
    folder : Path
        Where the run writes its checkpoints.

    Raises
    ------
    FileNotFoundError
        If a named checkpoint does not exist.
    ValueError
        If a named checkpoint cannot be read.
    """
    if resume == "never":
        return None
    if resume != "auto":
        path = Path(resume)
        if not path.is_file():
            raise FileNotFoundError(f"There is no checkpoint {path}; give a file, auto or never.")
        state = _read(path)
        if state is None:
            raise ValueError(
                f"{path} is damaged or no checkpoint; give another file, auto or never."
            )
        return _warn_about_changes(state, path)
    for path in reversed(_by_age(folder)):
        state = _read(path)
        if state is not None:
            return _warn_about_changes(state, path)
    return None


def environment() -> dict[str, str]:
    """Return what bit-exact resumption depends on, and what wrote the file."""
    return {
        "napari-dinocell": __version__,
        "torch": str(torch.__version__),  # a plain str: the loader takes no other class
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "commit": _commit(),
    }


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"))


def _abandoned(folder: Path) -> list[Path]:
    """What processes were writing when they were killed."""
    parts = [(part, part.stem.rpartition(".")[2]) for part in folder.glob("checkpoint-*.*.part")]
    return [part for part, pid in parts if pid.isdigit() and not psutil.pid_exists(int(pid))]


def _read(path: Path) -> dict[str, Any] | None:
    # The archive's directory is at its end: a file that was cut off has none.
    if not zipfile.is_zipfile(path):
        logger.warning("%s is cut off, or no checkpoint.", path)
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        logger.warning("%s can't be read (%s).", path, str(error).partition("\n")[0])
        return None
    return state if isinstance(state, dict) and "step" in state else None


def _warn_about_changes(state: dict[str, Any], path: Path) -> dict[str, Any]:
    now, then = environment(), state["environment"]
    for key in ("torch", "threads"):
        if now[key] != then[key]:
            logger.warning(
                "%s was written with %s %s, this run has %s: it goes on, but not bit by bit.",
                path.name, key, then[key], now[key],
            )  # fmt: skip
    return state


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
