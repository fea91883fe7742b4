"""Vision transformer in the DINOv3 form, with DINOv2's learned positions as the other strategy.

Parameter names are those of the official DINOv3 files, so that a checkpoint loads by name
(`weights.py` knows the other layouts).

References
----------
ViT https://arxiv.org/abs/2010.11929, LayerScale https://arxiv.org/abs/2103.17239, registers
https://arxiv.org/abs/2309.16588, DINOv2 https://arxiv.org/abs/2304.07193, DINOv3
https://arxiv.org/abs/2508.10104
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from napari_dinocell.core.model.position import (
    AxialRope,
    CoordinateChange,
    LearnedPositions,
    Rotation,
)
from napari_dinocell.core.model.transformer import Block, PatchEmbed

CoordinateDraw = Callable[[int], CoordinateChange | None]
"""Block index -> change of the patch coordinates in this block."""
BlockRunner = Callable[[nn.Module, int, Tensor, Rotation | None], Tensor]
"""Block, its index, tokens, rotation -> tokens: another way to run a block, as training has."""


class ViTConfig(BaseModel):
    """Shape of a vision transformer; the defaults are ViT-S/8 in the DINOv3 form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vit"] = "vit"
    width: int = Field(default=384, gt=0)
    depth: int = Field(default=12, gt=0)
    heads: int = Field(default=6, gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)
    patch: int = Field(default=8, gt=0)
    n_storage_tokens: int = Field(default=4, ge=0)
    position: Literal["rope", "learned"] = "rope"
    rope_base: float = Field(default=100.0, gt=0)
    position_grid: int = Field(default=37, gt=0)
    position_antialias: bool = False
    mask_key_bias: bool = True
    norm_eps: float = Field(default=1e-5, gt=0)
    layer_scale: float = 1e-5
    levels: tuple[int, int, int, int] = (2, 5, 8, 11)
    """Blocks whose outputs go to the decoder, 0-based, rising."""


VIT_S = ViTConfig()
VIT_B = ViTConfig(width=768, heads=12)
VIT_L = ViTConfig(width=1024, depth=24, heads=16, levels=(5, 11, 17, 23))
VIT_S_LEARNED = ViTConfig(
    n_storage_tokens=0, position="learned", mask_key_bias=False, norm_eps=1e-6
)
"""ViT-S/8 with DINOv2's positions and without registers."""


class Tokens(NamedTuple):
    """Normalized tokens of the last block: cls (B, D), storage (B, R, D), patches (B, N, D)."""

    cls: Tensor
    storage: Tensor
    patches: Tensor


class VisionTransformer(nn.Module):
    """ViT over standardized RGB images of any size that is a multiple of the patch.

    Tokens are ordered class, storage, patches row by row. Weights start as in DINOv3
    (normal with 0.02, class and storage tokens with 0.02, biases 0).
    """

    def __init__(self, config: ViTConfig = VIT_S) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ValueError(
                f"Width {config.width} does not divide by {config.heads} heads; change one of them."
            )
        self.config = config
        self.patch_embed = PatchEmbed(config.patch, config.width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        if config.n_storage_tokens:
            self.storage_tokens = nn.Parameter(
                torch.empty(1, config.n_storage_tokens, config.width)
            )
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))
        if config.position == "rope":
            self.rope_embed = AxialRope(config.width // config.heads, config.rope_base)
        else:
            self.pos_embed = LearnedPositions(
                config.width, config.position_grid, config.position_antialias
            )
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                round(config.width * config.mlp_ratio),
                mask_key_bias=config.mask_key_bias,
                norm_eps=config.norm_eps,
                layer_scale=config.layer_scale,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self._start()

    @property
    def position(self) -> AxialRope | LearnedPositions:
        """The position strategy in use."""
        return self.rope_embed if self.config.position == "rope" else self.pos_embed

    @property
    def n_prefix(self) -> int:
        """Tokens before the first patch."""
        return 1 + self.config.n_storage_tokens

    def features(self, x: Tensor, blocks: Sequence[int] | None = None) -> list[Tensor]:
        """Raw patch outputs of some blocks, shallow to deep, in channels-last memory.

        Parameters
        ----------
        x : (B, 3, Y, X)
            Standardized image; Y and X are multiples of the patch.
        blocks : sequence of int
            0-based indices in rising order; the configuration's levels by default.

        Returns
        -------
        list of (B, D, Y/patch, X/patch)
            Not normalized: each level's LayerNorm belongs to the decoder, so that these can be
            cached.
        """
        blocks = self.config.levels if blocks is None else blocks
        if not blocks or min(blocks) < 0 or max(blocks) >= self.config.depth:
            raise ValueError(
                f"Blocks {tuple(blocks)} were asked for; "
                f"this network has blocks 0 to {self.config.depth - 1}."
            )
        tokens, grid, rotation = self._embed(x, None)
        wanted = []
        for index, block in enumerate(self.blocks[: max(blocks) + 1]):
            tokens = block(tokens, rotation)
            if index in blocks:
                patches = tokens[:, self.n_prefix :].unflatten(1, grid)
                wanted.append(patches.permute(0, 3, 1, 2))
        return wanted

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        coordinates: CoordinateDraw | None = None,
        run: BlockRunner | None = None,
    ) -> Tokens:
        """Normalized tokens after the last block.

        Parameters
        ----------
        x : (B, 3, Y, X)
            Standardized image; Y and X are multiples of the patch.
        mask : (B, N) bool, optional
            True where a patch is replaced by the mask token.
        coordinates : callable, optional
            Block index -> `CoordinateChange`, for RoPE jitter in training.
        run : callable, optional
            Runs a block, for stochastic depth or activation checkpointing.
        """
        tokens, (height, width), rotation = self._embed(x, mask)
        for index, block in enumerate(self.blocks):
            if coordinates is not None:
                change = coordinates(index)
                rotation = self.position.rotation(height, width, self.n_prefix, change)
            tokens = block(tokens, rotation) if run is None else run(block, index, tokens, rotation)
        tokens = self.norm(tokens)
        return Tokens(tokens[:, 0], tokens[:, 1 : self.n_prefix], tokens[:, self.n_prefix :])

    def _embed(
        self, x: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, tuple[int, int], Rotation | None]:
        patch = self.config.patch
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % patch or x.shape[3] % patch:
            raise ValueError(
                f"Input has shape {tuple(x.shape)}; "
                f"expected (B, 3, Y, X) with Y and X multiples of {patch}."
            )
        patches = self.patch_embed(x)
        B, height, width, _ = patches.shape
        patches = patches.flatten(1, 2)
        if mask is not None:
            if mask.shape != patches.shape[:2]:
                raise ValueError(
                    f"Mask has shape {tuple(mask.shape)}; "
                    f"expected {tuple(patches.shape[:2])}, one value per patch."
                )
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        cls = self.cls_token.to(patches.dtype).expand(B, -1, -1)
        tokens = self.position.embed(torch.cat([cls, patches], dim=1), height, width)
        if self.config.n_storage_tokens:  # registers have no place: they come in after positions
            storage = self.storage_tokens.to(tokens.dtype).expand(B, -1, -1)
            tokens = torch.cat([tokens[:, :1], storage, tokens[:, 1:]], dim=1)
        return tokens, (height, width), self.position.rotation(height, width, self.n_prefix)

    def _start(self) -> None:
        """Draw the initial weights."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.cls_token, std=0.02)
        if self.config.n_storage_tokens:
            nn.init.normal_(self.storage_tokens, std=0.02)
        if self.config.position == "learned":
            nn.init.normal_(self.pos_embed.weight, std=0.02)
