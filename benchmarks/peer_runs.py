"""Adapters of peers: what they say of themselves, their environments, and running them.

Used by `compare_peers.py`; the adapters and their protocol are in `benchmarks/peers/`.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from peers.protocol import CANNOT_RUN, Settings

PEERS = Path(__file__).resolve().parent / "peers"
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
METADATA = re.compile(r"^# /// script\n(.*?)^# ///$", re.MULTILINE | re.DOTALL)
POLL_SECONDS = 0.05


class NotRunError(Exception):
    """A peer that was not run; the message says why."""


@dataclass(frozen=True)
class Adapter:
    """What the head of an adapter says.

    Attributes
    ----------
    name : str
        File name without `_adapter.py`.
    title, trained_on, code_license, weights_license : str
        For the tables.
    weights : str
        What --weights has to name; empty where the peer needs no file.
    dependencies, without_requirements : tuple of str
        For pip; the latter are installed without what they require.
    constrained : bool
        Whether `constraints.txt` holds for its environment.
    own_environment : bool
        Whether it has an environment of its own, not this one.
    """

    name: str
    title: str
    trained_on: str
    code_license: str
    weights_license: str
    weights: str
    dependencies: tuple[str, ...]
    without_requirements: tuple[str, ...]
    constrained: bool
    own_environment: bool

    @property
    def path(self) -> Path:
        """The script."""
        return PEERS / f"{self.name}_adapter.py"


@dataclass(frozen=True)
class Run:
    """What one run of a method on the images of one set gave.

    Attributes
    ----------
    labels : dict of str to Path
        By name of the image.
    seconds : dict of str to float
        By name of the image, without loading.
    peak_bytes : int
        Largest resident memory of the process and its children, seen every 50 ms.
    version, model : str
    """

    labels: dict[str, Path]
    seconds: dict[str, float]
    peak_bytes: int
    version: str
    model: str


def read_adapters() -> dict[str, Adapter]:
    """All adapters by name."""
    return {
        adapter.name: adapter
        for adapter in (_read(path) for path in sorted(PEERS.glob("*_adapter.py")))
    }


def _read(path: Path) -> Adapter:
    block = METADATA.search(path.read_text(encoding="utf-8"))
    if block is None:
        raise ValueError(f"{path} has no script metadata at its head; see peers/protocol.py.")
    head = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    peer = head["tool"]["peer"]
    return Adapter(
        name=path.stem.removesuffix("_adapter"),
        title=peer["title"],
        trained_on=peer["trained-on"],
        code_license=peer["code-license"],
        weights_license=peer["weights-license"],
        weights=peer.get("weights", ""),
        dependencies=tuple(head["dependencies"]),
        without_requirements=tuple(peer.get("without-requirements", ())),
        constrained=peer.get("constraints", True),
        own_environment=peer.get("environment") != "project",
    )


def prepare(adapter: Adapter, environments: Path) -> Path:
    """Python of the adapter's environment, which is made where it is not there yet."""
    if not adapter.own_environment:
        return Path(sys.executable)
    folder = (environments / adapter.name).resolve()
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = json.dumps([adapter.dependencies, adapter.without_requirements])
    stamp = folder / "installed.json"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    constraints = ["--constraint", str(CONSTRAINTS)] if adapter.constrained else []
    _pip([*install, *constraints, *adapter.dependencies], folder)
    if adapter.without_requirements:
        _pip([*install, "--no-deps", *adapter.without_requirements], folder)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _pip(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        (folder / "pip.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = errors[-1] if errors else f"pip ended with {done.returncode}"
        raise NotRunError(f"its packages could not be installed ({why}; see {folder}/pip.log)")


def run_peer(adapter: Adapter, python: Path, images: Path, settings: Settings, output: Path) -> Run:
    """Run an adapter on a folder of images, or take up what the same run gave before.

    Raises
    ------
    NotRunError
        If it says that it cannot run, or fails.
    """
    told = asdict(settings) | {"adapter": _digest([adapter.path, PEERS / "protocol.py"])}
    if settings.weights is not None:
        told["weights_digest"] = _digest(_files(Path(settings.weights)))
    output.parent.mkdir(parents=True, exist_ok=True)
    settings_file = output.parent / f"{output.name}.settings.json"
    settings_file.write_text(json.dumps(asdict(settings)), encoding="utf-8")
    command = [str(python), str(adapter.path), str(images), str(settings_file), str(output)]
    measured = _measured(command, told, images, output)
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    return Run(
        labels={name: output / f"{name}.tif" for name in result["seconds"]},
        seconds=result["seconds"],
        peak_bytes=measured["peak_bytes"],
        version=result["version"],
        model=result["model"],
    )


def run_ours(model: str, weights: Path, images: Path, device: str, output: Path) -> Run:
    """Segment a folder by the command line; `weights` is the file of the model."""
    told = {"model": model, "device": device, "weights": _digest(_files(weights))}
    command = [sys.executable, "-m", "napari_dinocell.core.cli", "segment", str(images)]
    command += ["--output", str(output), "--model", model, "--device", device, "--quiet"]
    measured = _measured(command, told, images, output)
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    stems = {Path(file["source"]).stem: file for file in record["files"]}
    return Run(
        labels={name: output / file["outputs"][-1] for name, file in stems.items()},
        seconds={name: file["seconds"] for name, file in stems.items()},
        peak_bytes=measured["peak_bytes"],
        version=record["model"]["version"],
        model=record["model"]["name"],
    )


def _files(path: Path) -> list[Path]:
    """The file, or all files of the folder; none where there is nothing."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in found if file.is_file()]


def _digest(paths: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _measured(
    command: list[str], told: dict[str, Any], images: Path, output: Path
) -> dict[str, Any]:
    """Run a command that fills `output`, unless it did so before with the same settings."""
    names = sorted(path.name for path in images.glob("*.tif"))
    told = told | {"images": names}
    stamp = output / "measured.json"
    if stamp.is_file():
        before = json.loads(stamp.read_text(encoding="utf-8"))
        if before["told"] == told:
            return before
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    log = output.parent / f"{output.name}.log"
    code, peak = watch(command, log)
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"it ended with {code}"
        raise NotRunError(why if code == CANNOT_RUN else f"it failed: {why} (see {log})")
    measured = {"told": told, "peak_bytes": peak}
    stamp.write_text(json.dumps(measured), encoding="utf-8")
    return measured


def watch(command: list[str], log: Path) -> tuple[int, int]:
    """Exit code and largest resident memory (bytes) of a command whose output goes to `log`."""
    peak = 0
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        root = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(root))
            time.sleep(POLL_SECONDS)
        return process.returncode, peak


def _resident(root: psutil.Process) -> int:
    total = 0
    try:
        for process in (root, *root.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:  # one of them has just ended
        pass
    return total
