"""U-Net decoder from the features of four transformer blocks to the distance map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from napari_dinocell.core.model.blocks import ChannelNorm, ConvNorm


class UNetDecoderConfig(BaseModel):
    """Shape of a `UNetDecoder`.

    `widths` are those of the three doubling stages and of the last one; (256, 128, 64, 32) cost as
    much as a ViT-S, the default a quarter of it. `stem` > 0 adds a skip of that width computed from
    the image itself. `stride` 2 lets the last two stages work at half resolution and interpolates
    the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet"] = "unet"
    inputs: int = Field(default=384, gt=0)
    widths: tuple[int, int, int, int] = (128, 64, 32, 16)
    stem: int = Field(default=16, ge=0)
    stride: Literal[1, 2] = 1


class Stage(nn.Module):
    """Double the resolution, join the skip, refine by two 3x3 convolutions.

    The skip is projected at token resolution and interpolated after: joining its 384 channels at
    the stage's resolution would cost more than the backbone.
    """

    def __init__(self, inputs: int, skip: int, width: int, double: bool = True) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, width, 2, 2) if double else nn.Conv2d(inputs, width, 1)
        self.skip = nn.Conv2d(skip, width, 1)
        self.refine = nn.Sequential(ConvNorm(2 * width, width), ConvNorm(width, width))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, inputs, Y, X), (B, skip, h, w) -> (B, width, 2Y, 2X)."""
        x = self.up(x)
        skip = functional.interpolate(
            self.skip(skip), size=x.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.refine(torch.cat([x, skip], dim=1))  # type: ignore[no-any-return]


class UNetDecoder(nn.Module):
    """Distance map from four feature levels at 1/8 resolution.

    Grid for a 256 px input: 32 -> 64 -> 128 -> 256; the deepest level goes up, the others are skips
    from deep to shallow. Each level is normalized here, so that raw features can be cached.
    """

    def __init__(self, config: UNetDecoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetDecoderConfig()
        one, two, three, four = config.widths
        self.norms = nn.ModuleList(ChannelNorm(config.inputs) for _ in range(4))
        self.stages = nn.ModuleList(
            [
                Stage(config.inputs, config.inputs, one),
                Stage(one, config.inputs, two),
                Stage(two, config.inputs, three, double=config.stride == 1),
            ]
        )
        if config.stem:
            self.stem = nn.Sequential(
                ConvNorm(3, config.stem, stride=config.stride), ConvNorm(config.stem, config.stem)
            )
        self.refine = nn.Sequential(ConvNorm(three + config.stem, four), ConvNorm(four, four))
        self.head = nn.Conv2d(four, 1, 1)

    def logits(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """Map before the sigmoid, (B, 1, Y, X)."""
        if len(features) != 4:
            raise ValueError(f"Decoder got {len(features)} feature levels; expected 4.")
        shallow, low, high, deep = (
            norm(level) for norm, level in zip(self.norms, features, strict=True)
        )
        x = deep
        for stage, skip in zip(self.stages, (high, low, shallow), strict=True):
            x = stage(x, skip)
        if self.config.stem:
            image = image.contiguous(memory_format=torch.channels_last)
            x = torch.cat([x, self.stem(image)], dim=1)
        x = self.head(self.refine(x))
        if self.config.stride == 2:
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return x  # type: ignore[no-any-return]

    def forward(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """Distance map.

        Parameters
        ----------
        features : four tensors (B, inputs, Y/8, X/8)
            Shallow to deep, not normalized.
        image : (B, 3, Y, X)
            Standardized image; read by the stem only.

        Returns
        -------
        (B, 1, Y, X) in (0, 1)
        """
        return self.logits(features, image).sigmoid()
