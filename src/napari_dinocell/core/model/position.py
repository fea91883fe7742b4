"""Where a patch lies, told in two ways: axial RoPE (DINOv3) and a learned table (DINOv2).

Both are modules with the same two methods, so that the transformer has one code path:
`embed` adds to the tokens before the first block, `rotation` gives what each block does to q and k.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Rotation(NamedTuple):
    """Cosines and sines, both (N, D_head), that turn q and k; 1 and 0 for placeless tokens."""

    cos: Tensor
    sin: Tensor


class CoordinateChange(NamedTuple):
    """Training-time change of the patch coordinates: `(coordinates + shift) * scale`.

    Both are (2,) float tensors in (y, x) order. Drawn by the caller, so that the draw can be a
    function of seed and step; jitter is a scale per axis, rescale the same scale for both.
    """

    shift: Tensor
    scale: Tensor


class AxialRope(nn.Module):
    """Rotary position encoding of patch centers normalized to [-1, 1] per axis.

    Half of each head's rotation pairs turn with y, half with x, with `width // 4` periods from 1 to
    about `base` (in units of half the image): the key `rope_embed.periods` of the official files.

    References
    ----------
    DINOv3, https://arxiv.org/abs/2508.10104, appendix; RoFormer, https://arxiv.org/abs/2104.09864
    """

    periods: Tensor

    def __init__(self, head_width: int, base: float = 100.0) -> None:
        super().__init__()
        if head_width % 4:
            raise ValueError(
                f"Width of a head is {head_width}; axial RoPE needs a multiple of 4: "
                "change width or heads."
            )
        exponents = 2 * torch.arange(head_width // 4, dtype=torch.float32) / (head_width // 2)
        self.register_buffer("periods", base**exponents)

    def embed(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the tokens as they are: RoPE acts inside attention only."""
        return tokens

    def rotation(
        self, height: int, width: int, n_prefix: int, change: CoordinateChange | None = None
    ) -> Rotation:
        """Rotation of `n_prefix` placeless tokens followed by `height * width` patches, float32."""
        device = self.periods.device
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        coordinates = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1) * 2 - 1
        if change is not None:
            coordinates = (coordinates + change.shift.to(device)) * change.scale.to(device)
        # (N, 2, 1) / (D_head/4): y angles first, then x angles, the whole twice for the two halves.
        angles = 2 * math.pi * coordinates[:, :, None] / self.periods.float()
        angles = angles.flatten(1, 2).tile(2)
        angles = functional.pad(angles, (0, 0, n_prefix, 0))  # angle 0: cos 1, sin 0
        return Rotation(angles.cos(), angles.sin())


class LearnedPositions(nn.Module):
    """A table of position embeddings, one for the class token and `grid * grid` for patches.

    For another grid the patch part is interpolated bicubically. Without antialiasing by default, as
    in DINOv2 without registers; the checkpoints with registers were made with antialiasing.
    """

    def __init__(self, width: int, grid: int, antialias: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.antialias = antialias
        self.weight = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))

    def embed(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Add the table to (B, 1 + height * width, D) tokens, class token first."""
        return tokens + resample_positions(self.weight, height, width, self.antialias).to(
            tokens.dtype
        )

    def rotation(
        self, height: int, width: int, n_prefix: int, change: CoordinateChange | None = None
    ) -> None:
        """Return nothing: q and k stay as they are."""
        if change is not None:
            raise ValueError(
                "Learned positions have no coordinates to change; "
                "use position='rope' or drop the change."
            )


def resample_positions(table: Tensor, height: int, width: int, antialias: bool = False) -> Tensor:
    """Position table for another grid, bicubic.

    Parameters
    ----------
    table : (1, 1 + G * G, D)
        Class token first, then a square grid row by row.
    height, width : int
        Patches per axis that are wanted.
    antialias : bool
        Smooth before shrinking.

    Returns
    -------
    (1, 1 + height * width, D), dtype of `table`
    """
    grid = math.isqrt(table.shape[1] - 1)
    if grid * grid != table.shape[1] - 1:
        raise ValueError(
            f"Position table has {table.shape[1]} rows; "
            "expected 1 + a square number, class token first."
        )
    if (height, width) == (grid, grid):
        return table
    patches = table[:, 1:].float().reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    patches = functional.interpolate(
        patches, size=(height, width), mode="bicubic", align_corners=False, antialias=antialias
    )
    patches = patches.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)
    return torch.cat([table[:, :1], patches], dim=1)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn (B, H, N, D_head) queries or keys: the pairs are (i, i + D_head / 2)."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return x * rotation.cos + turned * rotation.sin
