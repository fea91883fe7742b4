"""Random-resized crops of a tile, as two small matrices per crop.

Cropping and resizing are linear along each axis, so a crop is ``A @ plane @ B.T`` with A (out, Y)
and B (out, X): batched over samples with different boxes, antialiased, and bit-identical for all
channels. The choice of boxes follows Inception's (arXiv:1409.4842, section 6) as DINO uses it;
flips and quarter turns are added, because microscopy knows no upright.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Where a crop lies in its tile, and how it is turned.

    The box (px of the tile) is resized to `size` x `size`, then flipped along y, along x, and
    transposed, each where asked: together the eight symmetries of the square.
    """

    top: int
    left: int
    height: int
    width: int
    size: int
    flip_y: bool = False
    flip_x: bool = False
    transpose: bool = False


def draw_geometry(
    rng: np.random.Generator,
    tile: tuple[int, int],
    size: int,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    accept: Callable[[Geometry], bool] | None = None,
    n_redraws: int = 4,
) -> Geometry:
    """Random box and orientation.

    Parameters
    ----------
    tile : (height, width)
        Of the tile, px.
    size : int
        Side of the crop after resizing, px.
    area : (low, high)
        Share of the tile's area, drawn evenly: (0.32, 1) for global, (0.05, 0.32) for local crops.
    aspect : (low, high)
        Width by height, drawn evenly on the logarithm.
    accept : callable, optional
        Says whether a crop is worth looking at; refused ones are drawn again up to `n_redraws`
        times, then the last is taken.
    """
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(
            f"Crop area from {area[0]} to {area[1]} of the tile; expected 0 < low <= high <= 1."
        )
    if min(*tile, size) < 1:
        raise ValueError(
            f"Crops of {size} px from a tile of {tile[0]} x {tile[1]} px; all must be positive."
        )
    for _ in range(n_redraws + 1):
        top, left, height, width = _draw_box(rng, tile, area, aspect)
        flip_y, flip_x, transpose = (bool(flag) for flag in rng.integers(2, size=3))
        geometry = Geometry(top, left, height, width, size, flip_y, flip_x, transpose)
        if accept is None or accept(geometry):
            break
    return geometry


def crop_planes(channels: Tensor, renderings: Tensor, geometries: Sequence[Geometry]) -> Tensor:
    """Render and crop a batch, each sample with its own rendering and geometry.

    Parameters
    ----------
    channels : (B, C, Y, X) float tensor
        Normalized tiles.
    renderings : (B, P, C) tensor
        Weights of the channels in each plane; 0 for channels that a sample lacks.
    geometries : sequence of B Geometry
        All with the same `size`.

    Returns
    -------
    (B, P, size, size) tensor
        Float32 on the device of `channels`. Bicubic with antialiasing; may exceed the range of the
        input by the overshoot of a cubic.
    """
    sizes = {g.size for g in geometries}
    if (
        len(sizes) != 1
        or len(geometries) != len(channels)
        or renderings.shape[::2] != channels.shape[:2]
    ):
        raise ValueError(
            f"{len(geometries)} geometries of the sizes {sorted(sizes)} and renderings "
            f"{tuple(renderings.shape)} for tiles {tuple(channels.shape)}; "
            "expected one of each per tile and one size."
        )
    device = channels.device
    size = sizes.pop()
    boxes = torch.tensor([(g.top, g.height, g.left, g.width) for g in geometries], device=device)
    along_y = resize_matrix(boxes[:, 0], boxes[:, 1], channels.shape[2], size)  # (B, size, Y)
    along_x = resize_matrix(boxes[:, 2], boxes[:, 3], channels.shape[3], size)  # (B, size, X)
    turns = torch.tensor([(g.flip_y, g.flip_x, g.transpose) for g in geometries], device=device)
    along_y = torch.where(turns[:, 0, None, None], along_y.flip(1), along_y)
    along_x = torch.where(turns[:, 1, None, None], along_x.flip(1), along_x)
    with torch.autocast(device.type, enabled=False):
        planes = torch.einsum(
            "bpc,bcyx->bpyx", renderings.to(device, torch.float32), channels.float()
        )
        crops = along_y[:, None] @ planes @ along_x[:, None].mT
    return torch.where(turns[:, 2, None, None, None], crops.mT, crops)


def resize_matrix(start: Tensor, length: Tensor, n_in: int, n_out: int) -> Tensor:
    """Matrices that resample a box of an axis of `n_in` pixels to `n_out` pixels.

    Parameters
    ----------
    start, length : (B,) int tensors
        The boxes, ``[start, start + length)``.

    Returns
    -------
    (B, n_out, n_in) float32 tensor
        Each row sums to 1 and is 0 outside its box.

    Notes
    -----
    Output pixel i looks at ``start + (i + 1/2) * length / n_out``, through Keys' cubic with a =
    -1/2 (Keys 1981, doi:10.1109/TASSP.1981.1163711, equation 15), widened by the zoom where the
    axis shrinks. Weights that would fall outside the box are dropped and the rest rescaled: the
    crop is resized as if it were all there is.
    """
    scale = (length.double() / n_out)[:, None, None]
    rows = torch.arange(n_out, device=start.device)[None, :, None] + 0.5
    columns = torch.arange(n_in, device=start.device)[None, None, :]
    first, last = start[:, None, None], (start + length)[:, None, None]
    distance = (columns + 0.5 - first - rows * scale) / scale.clamp_min(1.0)
    weights = torch.where((columns >= first) & (columns < last), _keys_cubic(distance), 0.0)
    return (weights / weights.sum(dim=2, keepdim=True)).float()


def _draw_box(
    rng: np.random.Generator,
    tile: tuple[int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Top, left, height, width; after ten boxes that do not fit, the largest centered one."""
    for _ in range(10):
        pixels = tile[0] * tile[1] * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        height, width = (
            max(1, round(math.sqrt(pixels / ratio))),
            max(1, round(math.sqrt(pixels * ratio))),
        )
        if height <= tile[0] and width <= tile[1]:
            top, left = rng.integers(tile[0] - height + 1), rng.integers(tile[1] - width + 1)
            return int(top), int(left), height, width
    side = max(1, min(*tile, round(math.sqrt(tile[0] * tile[1] * area[1]))))
    return (tile[0] - side) // 2, (tile[1] - side) // 2, side, side


def _keys_cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))
