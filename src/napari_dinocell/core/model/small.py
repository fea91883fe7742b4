"""A plain convolutional U-Net in two halves, for computers without a GPU.

Same interface as the transformer and its decoder: adaptation keeps the encoder frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from napari_dinocell.core.model.blocks import ConvNorm, Residual

Widths = tuple[int, int, int, int, int]


class SmallEncoderConfig(BaseModel):
    """Widths and numbers of residual blocks at strides 1, 2, 4, 8, 16."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["small"] = "small"
    widths: Widths = (16, 48, 96, 160, 256)
    blocks: Widths = (0, 1, 2, 2, 2)


class SmallDecoderConfig(BaseModel):
    """Widths of the encoder's levels and of the stages that go up to strides 8, 4, 2, 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["small"] = "small"
    inputs: Widths = (16, 48, 96, 160, 256)
    widths: tuple[int, int, int, int] = (128, 64, 48, 16)


class SmallEncoder(nn.Module):
    """Five levels of residual blocks, each at half the resolution of the one before."""

    def __init__(self, config: SmallEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SmallEncoderConfig()
        levels: list[nn.Module] = []
        inputs = 3
        for index, (width, n_blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            enter = ConvNorm(inputs, width, stride=1 if index == 0 else 2)
            levels.append(nn.Sequential(enter, *(Residual(width) for _ in range(n_blocks))))
            inputs = width
        self.levels = nn.ModuleList(levels)

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, Y, X), multiples of 8 -> five tensors at strides 1, 2, 4, 8, 16 (rounded up)."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 8 or x.shape[3] % 8:
            raise ValueError(
                f"Input has shape {tuple(x.shape)}; "
                "expected (B, 3, Y, X) with Y and X multiples of 8."
            )
        x = x.contiguous(memory_format=torch.channels_last)
        outputs = []
        for level in self.levels:
            x = level(x)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        """Same as `features`."""
        return self.features(x)


class SmallStage(nn.Module):
    """Project, double by interpolation, add the projected skip, refine by a residual block."""

    def __init__(self, inputs: int, skip: int, width: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(inputs, width, 1)
        self.skip = nn.Conv2d(skip, width, 1)
        self.refine = nn.Sequential(ConvNorm(width, width), Residual(width))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, inputs, Y, X), (B, skip, 2Y, 2X) -> (B, width, 2Y, 2X)."""
        x = functional.interpolate(self.up(x), scale_factor=2, mode="bilinear", align_corners=False)
        # A grid of odd size was rounded up on the way down: the surplus row or column goes.
        x = x[..., : skip.shape[-2], : skip.shape[-1]] + self.skip(skip)
        return self.refine(x)  # type: ignore[no-any-return]


class SmallDecoder(nn.Module):
    """Distance map from the five levels of a `SmallEncoder`."""

    def __init__(self, config: SmallDecoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SmallDecoderConfig()
        inputs = (config.inputs[4], *config.widths[:3])
        skips = config.inputs[3::-1]
        self.stages = nn.ModuleList(
            SmallStage(*shape) for shape in zip(inputs, skips, config.widths, strict=True)
        )
        self.head = nn.Conv2d(config.widths[3], 1, 1)

    def logits(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """Map before the sigmoid, (B, 1, Y, X); the image is not read."""
        if len(features) != 5:
            raise ValueError(f"Decoder got {len(features)} feature levels; expected 5.")
        x = features[4]
        for stage, skip in zip(self.stages, features[3::-1], strict=True):
            x = stage(x, skip)
        return self.head(x)  # type: ignore[no-any-return]

    def forward(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """Distance map (B, 1, Y, X) in (0, 1) from five feature levels, shallow to deep."""
        return self.logits(features, image).sigmoid()
