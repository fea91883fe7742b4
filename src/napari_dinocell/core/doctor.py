"""What this installation consists of: the first thing to send with a bug report.

napari-dinocell doctor
python -m napari_dinocell.core.doctor --json
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import psutil
import torch
import typer

from napari_dinocell import __version__
from napari_dinocell.core import console
from napari_dinocell.core.model.files import bundled_models

NEEDED = (
    "numpy", "scipy", "scikit-image", "torch", "tifffile", "imageio", "zarr", "numba",
    "safetensors", "pydantic",
)  # fmt: skip
OPTIONAL = ("imagecodecs", "roifile", "napari", "npe2", "qtpy", "wandb", "boto3", "pyarrow")
MISSING = "MISSING"
QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def report() -> dict[str, dict[str, Any]]:
    """Versions, devices, Qt, folders and memory, as sections of name and value.

    Nothing is changed, no folder is made, no network is asked. Sizes are in bytes.
    """
    return {
        "versions": _versions(),
        "devices": _devices(),
        "Qt": _qt(),
        "folders": _folders(),
        "memory": _memory(),
    }


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {
        "napari-dinocell": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in (*NEEDED, *OPTIONAL):
        found[name] = _version(name) or (MISSING if name in NEEDED else "not installed")
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    devices: dict[str, Any] = {
        "cpu": f"{os.cpu_count()} logical cores, torch uses {torch.get_num_threads()} threads"
    }
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = (
            f"{properties.name}, {_gigabytes(properties.total_memory)} of memory"
        )
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    return devices


def _qt() -> dict[str, Any]:
    bindings = {
        name: _version(name) or _version(f"{name}-Essentials") or "of unknown version"
        for name in QT_BINDINGS
        if find_spec(name) is not None
    }
    return {
        "bindings": ", ".join(f"{name} {number}" for name, number in bindings.items())
        or 'none (only needed for the viewer: pip install "napari-dinocell[all]")',
        "QT_API": os.environ.get("QT_API", "not set"),
        "QT_QPA_PLATFORM": os.environ.get("QT_QPA_PLATFORM", "not set"),
        "DISPLAY": os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "not set",
    }


def _folders() -> dict[str, Any]:
    cache = platformdirs.user_cache_path("napari-dinocell")
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    return {
        "package": str(Path(__file__).resolve().parent.parent),
        "cache": str(cache),
        "cache is writable": os.access(existing, os.W_OK),
        "free there": shutil.disk_usage(existing).free,
        "bundled models": ", ".join(bundled_models()) or MISSING,
    }


def _memory() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {"total": memory.total, "available": memory.available}


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


def _as_text(sections: dict[str, dict[str, Any]]) -> str:
    width = max(len(name) for entries in sections.values() for name in entries)
    lines = []
    for section, entries in sections.items():
        lines.append(section)
        lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in entries.items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _gigabytes(value) if isinstance(value, int) else str(value)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> int:
    """Print versions, devices, Qt, the cache folder and free memory.

    Ends with 1 if something that segmenting needs is missing.
    """
    sections = report()
    typer.echo(json.dumps(sections, indent=2) if as_json else _as_text(sections))
    missing = [
        name for part in sections.values() for name, value in part.items() if value == MISSING
    ]
    if missing:
        typer.echo(f"Missing: {', '.join(missing)}; install napari-dinocell again.", err=True)
    return console.SOME_FAILED if missing else console.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.run(doctor, argv, "napari-dinocell doctor")


if __name__ == "__main__":
    sys.exit(main())
