"""Fixed tiles to look at a backbone with, and what the backbone makes of each of their channels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_dinocell.core.model.network import IMAGENET_MEAN, IMAGENET_STD
from napari_dinocell.core.model.position import Rotation, rotate
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.samples import TileSettings
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.windows import cut, finish

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class GalleryTile:
    """A tile without augmentation.

    Attributes
    ----------
    pixels : (C, S, S) float32 array
        Normalized by the whole field; only channels with contrast.
    channels : tuple of C str
    field : str
        Id of its field.
    group : str
        Plate of its field; intervals are over these.
    """

    pixels: FloatArray
    channels: tuple[str, ...]
    field: str
    group: str


@dataclass(frozen=True)
class Embedded:
    """What a backbone makes of the channels of a tile, one by one.

    Attributes
    ----------
    cls : (C, D) float32 array
    patches : (C, N, D) float32 array
    attention : (C, H, N) float32 array
        From the CLS token of the last block to each patch, per head.
    """

    cls: FloatArray
    patches: FloatArray
    attention: FloatArray


def read_gallery(
    fields: Manifest,
    source: SourceSettings,
    *,
    side: int = 224,
    pixel_size_um: float | None = None,
    tiles_per_field: int = 4,
    n_fields: int | None = None,
    left_out: Sequence[str] = (),
    least_std: float = 0.02,
) -> list[GalleryTile]:
    """Tiles of a manifest's fields that do not overlap; fields that cannot be read are left out.

    Parameters
    ----------
    side, pixel_size_um
        See `TileSettings`.
    tiles_per_field : int
        At most; spread over the field.
    n_fields : int, optional
        So many fields, spread over the manifest; all by default.
    left_out : sequence of str
        Channels that are not looked at.
    least_std : float
        Tiles whose mean channel varies less show nothing.

    Raises
    ------
    ValueError
        If no tile shows anything.
    """
    reader = source.open(fields, seed=0)
    settings = TileSettings(side, pixel_size_um)
    n_rows = min(n_fields or len(fields), len(fields))
    tiles = []
    try:
        for row in np.unique(np.linspace(0, len(fields) - 1, n_rows).astype(int)):
            field = reader.read(int(row))
            if field.record.id != fields[int(row)].id:  # a replacement, which may be there already
                continue
            own = settings.side_in(field.record)
            corners = _grid(field.channels.shape[1], field.channels.shape[2], own)
            found: list[GalleryTile] = []
            for corner in corners:
                pixels = finish(cut(field.channels, corner, own), field.ranges, side)
                shown = [
                    c
                    for c, r in enumerate(field.ranges)
                    if not r.is_empty and field.record.channels[c] not in left_out
                ]
                if shown and pixels[shown].mean(axis=0).std() >= least_std:
                    names = tuple(field.record.channels[c] for c in shown)
                    record = field.record
                    found.append(GalleryTile(pixels[shown], names, record.id, record.plate_id))
            keep = np.linspace(0, len(found) - 1, min(tiles_per_field, len(found)))
            tiles += [found[i] for i in np.unique(keep.astype(int))]
    finally:
        reader.stop()
    if not tiles:
        raise ValueError(f"None of {n_rows} fields shows anything in the channels looked at.")
    return tiles


@torch.no_grad()
def embed(
    backbone: VisionTransformer, tiles: Sequence[GalleryTile], *, batch: int = 8
) -> list[Embedded]:
    """Features of every channel of every tile, float32, in evaluation mode.

    Parameters
    ----------
    batch : int
        Planes per forward pass.
    """
    device = backbone.cls_token.device
    backbone = backbone.eval()
    planes = torch.from_numpy(np.concatenate([tile.pixels for tile in tiles]))[:, None]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for some in torch.split(planes, batch):
        with AttentionProbe(backbone) as probe:
            tokens = backbone(((some - mean) / std).to(device))
        parts.append((tokens.cls.cpu(), tokens.patches.cpu(), probe.cls_to_patches().cpu()))
    cls, patches, attention = (torch.cat(values).numpy() for values in zip(*parts, strict=True))
    ends = np.cumsum([len(tile.pixels) for tile in tiles])[:-1]
    return [
        Embedded(*values)
        for values in zip(
            np.split(cls, ends), np.split(patches, ends), np.split(attention, ends), strict=True
        )
    ]


class AttentionProbe:
    """Context in which the last block's attention is listened to.

    The fused attention keeps no weights, so they are computed again from queries and keys.
    """

    def __init__(self, backbone: VisionTransformer) -> None:
        self._backbone = backbone
        self._attention: nn.Module = backbone.blocks[-1].attn  # type: ignore[assignment]
        self._seen: tuple[Tensor, Rotation | None] | None = None

    def __enter__(self) -> "AttentionProbe":
        self._handle = self._attention.register_forward_pre_hook(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def cls_to_patches(self) -> Tensor:
        """(B, H, N) weights of the forward pass in this context; they sum to at most 1.

        The rest goes to the CLS and storage tokens.
        """
        if self._seen is None:
            raise ValueError("No forward pass was made in the context of the probe.")
        tokens, rotation = self._seen
        heads = self._backbone.config.heads
        B, N, D = tokens.shape
        qkv = self._attention.qkv(tokens).view(B, N, 3, heads, D // heads)  # type: ignore[operator]
        q, k, _ = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, N, D_head)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        scores = q[:, :, :1] @ k.mT / (D // heads) ** 0.5
        weights: Tensor = scores.float().softmax(dim=-1)[:, :, 0, self._backbone.n_prefix :]
        return weights

    def _listen(self, _: nn.Module, inputs: tuple[Tensor, Rotation | None]) -> None:
        self._seen = inputs[0].detach(), inputs[1]


def _grid(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """Corners of disjoint squares, centered; one at the corner where none fits."""
    n_y, n_x = max(1, height // side), max(1, width // side)
    top, left = max(0, height - n_y * side) // 2, max(0, width - n_x * side) // 2
    return [(top + i * side, left + j * side) for i in range(n_y) for j in range(n_x)]
