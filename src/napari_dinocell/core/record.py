"""What decided a result, in a file: `run.json`, from which `segment --from-run` repeats the run."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_dinocell.core.exports import write_json
from napari_dinocell.core.levels import FLOOR

__all__ = [
    "FailedFile",
    "FileRecord",
    "ModelRecord",
    "RunRecord",
    "Settings",
    "absolute",
    "file_sha256",
    "file_size",
    "mixed_results",
    "with_earlier_files",
]

_log = logging.getLogger("napari_dinocell.batch")

_Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_FROZEN = ConfigDict(frozen=True, extra="forbid")
_NOT_DECISIVE = ("device", "batch")
# Values that leave it to the file or the model, where they aren't None and auto.
_OPEN = {"diameter": ("auto",)}


class Settings(BaseModel):
    """Options of `segment` that decide the labels; None leaves it to the file or the model."""

    model_config = _FROZEN

    model: str = "auto"
    """Bundled name, path of a model file, or auto."""
    device: str = "auto"
    axes: str | None = None
    channel: int | str | None = None
    pixel_size_um: tuple[_Length, _Length] | None = None
    """µm per px along (Y, X)."""
    diameter: _Length | Literal["auto"] | None = "auto"
    """px, auto, or None to resize nothing."""
    peak: float | None = Field(None, gt=0, lt=1)
    fill: float | None = Field(None, ge=FLOOR, lt=1)
    min_area: int | None = Field(None, ge=0)
    """px."""
    min_prominence: float | None = Field(None, ge=0, le=1)
    min_confidence: float | None = Field(None, ge=0, le=1)
    """None keeps every cell, and so does 0."""
    link: Literal["z", "t", "zt"] | None = None
    """Along which axes one cell keeps one id."""
    link_overlap: float | None = Field(None, gt=0, le=1)
    link_gap: int | None = Field(None, ge=0)
    batch: int | None = Field(None, ge=1)
    """Tiles at once."""

    @field_validator("min_confidence")
    @classmethod
    def _none_is_zero(cls, value: float | None) -> float | None:
        # Both mean the same, and must not count as a difference.
        return value or None

    def differences(self, other: Settings, *, given_only: bool = False) -> list[str]:
        """What would change the labels, as `name: mine, the other's`.

        With `given_only`, what is left to the file or the model counts as equal.
        """
        mine, others = self.model_dump(), other.model_dump()
        names = [name for name in mine if name not in _NOT_DECISIVE and mine[name] != others[name]]
        if given_only:
            names = [name for name in names if mine[name] not in _OPEN.get(name, (None, "auto"))]
        return [f"{name}: {mine[name]}, {others[name]}" for name in names]


class ModelRecord(BaseModel):
    """Which weights were used."""

    model_config = _FROZEN

    name: str
    version: str
    sha256: str
    """Of the weights in use."""
    use_sha256: str | None = None
    """Of what else in the card decides a result: `ModelCard.use_sha256`."""

    def differences(self, other: ModelRecord) -> list[str]:
        """In what the two would give other results, as `name: mine, the other's`."""
        found = []
        if self.sha256 != other.sha256:
            found.append(f"weights: {self.sha256[:12]}, {other.sha256[:12]}")
        mine, others = self.use_sha256, other.use_sha256
        if mine and others and mine != others:
            found.append(f"settings of the model: {mine[:12]}, {others[:12]}")
        return found


class FileRecord(BaseModel):
    """One finished input."""

    model_config = _FROZEN

    source: str
    """Absolute path, or address."""
    size_bytes: int | None
    sha256: str | None
    """Of a file; None for folders and remote objects."""
    outputs: tuple[str, ...]
    """Relative to the record's folder, with slashes; the labels come last."""
    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size_um: tuple[float, float] | None
    count: int
    summary: dict[str, float | None]
    """Over all planes: mean area, confluency and their twins in µm."""
    prediction: dict[str, Any]
    """`Prediction.provenance`: normalization and scale of each plane among others."""
    seconds: float
    """Since the file before; of images in common batches the first bears most."""

    @property
    def folder(self) -> Path:
        """Folder of the results, relative to the record's folder."""
        return Path(self.outputs[-1]).parent


class FailedFile(BaseModel):
    """One input without a result."""

    model_config = _FROZEN

    source: str
    error: str


class RunRecord(BaseModel):
    """Content of `run.json`."""

    model_config = _FROZEN

    format: Literal[1] = 1
    created: str
    """ISO 8601, with time zone."""
    command: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    model: ModelRecord
    device: str = ""
    """That ran the network."""
    settings: Settings
    """As used: thresholds are numbers here, also where the model file gave them."""
    name: str = "{stem}_labels"
    kinds: tuple[str, ...] = ("labels",)
    files: tuple[FileRecord, ...] = ()
    failed: tuple[FailedFile, ...] = Field((), description="inputs without a result")

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read a record.

        Raises
        ------
        FileNotFoundError
            If there is none at `path`.
        ValueError
            If the file is not a record of this program.
        """
        if path.is_dir():
            path = path / "run.json"
        if not path.exists():
            raise FileNotFoundError(f"There is no run file {path}; give a run.json.")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "content"
            raise ValueError(
                f"{path} is not a run file of this version ({where}: {first['msg']})."
            ) from error

    def write(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))

    def summary_table(self) -> dict[str, list[Any]]:
        """One row per finished file, as columns."""
        names = dict.fromkeys(name for file in self.files for name in file.summary)
        table: dict[str, list[Any]] = {"source": [file.source for file in self.files]}
        table["labels"] = [file.outputs[-1] for file in self.files]
        for name in names:
            values = [file.summary.get(name) for file in self.files]
            table[name] = [math.nan if value is None else value for value in values]
        table["count"] = [file.count for file in self.files]
        return table


def with_earlier_files(record: RunRecord, path: Path, *, overwrite: bool) -> RunRecord:
    """Keep what the folder's record says about other files; results of other settings don't mix.

    Parameters
    ----------
    record : RunRecord
        Of a new run.
    path : Path
        Of the record of earlier ones, which need not be there.
    overwrite : bool
        Whether an earlier record of other settings may be given up.

    Raises
    ------
    ValueError
        If there is one, and it may not.
    """
    if not path.exists():
        return record
    before = RunRecord.read(path)
    differences = record.settings.differences(before.settings)
    differences += record.model.differences(before.model)
    if not differences or not before.files:
        kinds = tuple(dict.fromkeys([*before.kinds, *record.kinds]))
        return record.model_copy(update={"files": before.files, "kinds": kinds})
    if overwrite:
        _log.warning("%s is begun anew: it was of other settings.", path)
        return record
    raise mixed_results(path, differences)


def mixed_results(path: Path, differences: list[str]) -> ValueError:
    """The error for a folder whose record `path` is of other settings."""
    return ValueError(
        f"{path.parent} holds results of other settings ({'; '.join(differences)} there); choose "
        "another --output, or --overwrite."
    )


def absolute(source: str | Path) -> str:
    """Absolute path of what is there; a name or an address as it is."""
    path = Path(source)
    return str(path.resolve()) if path.exists() else str(source)


def file_size(path: str | Path) -> int | None:
    """Bytes of a file, None for a folder or an address."""
    return os.path.getsize(path) if os.path.isfile(path) else None


def file_sha256(path: str | Path) -> str | None:
    """Hash of a file's bytes, None for a folder or an address."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
