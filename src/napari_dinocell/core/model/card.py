"""The model card: everything about a model that is not a weight."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_dinocell.core.model.network import Architecture

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_USE = (
    *("input", "min_area", "min_prominence", "diameter", "tile", "overlap"),
    *("confidence", "pixel_size_um"),
)


class BackboneReference(BaseModel):
    """The backbone file that a model is made for."""

    model_config = _FROZEN

    file: str
    """File name without a folder."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """`tensors_sha256` of its tensors, so that a changed header changes nothing."""


class InputCard(BaseModel):
    """How a plane becomes the network's input."""

    model_config = _FROZEN

    color: bool = False
    """Whether RGB goes in as color; else as luminance."""
    percentiles: tuple[float, float] = (1.0, 99.8)
    """Become 0 and 1."""
    contrast_floor: float = Field(default=8.0, ge=0)
    """Planes with less contrast, in units of their noise, count as empty."""


class TargetCard(BaseModel):
    """What the distance map means."""

    model_config = _FROZEN

    kind: Literal["edt", "lifted"] = "lifted"
    lift: float = Field(default=0.2, ge=0, lt=1)
    """a in `a + (1 - a) * EDT / max` inside an instance; 0 for `edt`."""

    @model_validator(mode="after")
    def _edt_is_not_lifted(self) -> TargetCard:
        if (self.kind == "edt") != (self.lift == 0):
            raise ValueError(f"kind is {self.kind} and lift is {self.lift}; only edt has lift 0")
        return self


class ModelCard(BaseModel):
    """What a model is, how to use it, where it comes from and what it reaches.

    Stored as JSON in the header of the model file. Lengths in px.
    """

    model_config = _FROZEN

    name: str = Field(min_length=1)
    version: str = "1"
    architecture: dict[str, Any]
    """`DINOCell.architecture`."""
    backbone: BackboneReference | None = None
    """None when the file holds the whole network and no other file has the same encoder."""
    input: InputCard = InputCard()
    target: TargetCard = TargetCard()
    peak: float = Field(gt=0, lt=1)
    fill: float = Field(gt=0, lt=1)
    min_area: int = Field(default=0, ge=0)
    min_prominence: float = Field(default=0.0, ge=0, lt=1)
    diameter: float = Field(gt=0)
    """Median diameter of the instances that the model was trained around."""
    tile: int = Field(default=256, gt=0, multiple_of=8)
    overlap: int = Field(default=64, ge=0)
    confidence: dict[str, float] = {}
    """Coefficients of the logistic formula."""
    pixel_size_um: float | None = Field(default=None, gt=0)
    """Pixel size of the training data, where it has one."""
    data: tuple[str, ...] = ()
    licenses: dict[str, str] = {}
    """Of each data set and weight file that went in."""
    command: str = ""
    """That makes the model again."""
    seed: int | None = None
    scores: dict[str, Any] = {}
    adaptation: dict[str, Any] = {}
    """Of an adapted model: its base, and the report of the adaptation."""
    notes: str = ""

    @property
    def use_sha256(self) -> str:
        """Hash of what decides a result beside weights, peak and fill."""
        return hashlib.sha256(self.model_dump_json(include=set(_USE)).encode()).hexdigest()

    @model_validator(mode="after")
    def _is_consistent(self) -> ModelCard:
        Architecture.model_validate(self.architecture)
        if self.fill >= self.peak:
            raise ValueError(f"fill {self.fill} is not below peak {self.peak}")
        if self.overlap >= self.tile:
            raise ValueError(f"overlap {self.overlap} is not below tile {self.tile}")
        return self
