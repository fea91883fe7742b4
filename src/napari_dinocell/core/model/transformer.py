"""Layers of a vision transformer, with the attribute names of the official DINOv3 files."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_dinocell.core.model.position import Rotation, rotate


class PatchEmbed(nn.Module):
    """Linear projection of each patch, as a convolution whose stride is its kernel."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, Y, X) -> (B, Y/patch, X/patch, D)."""
        return self.proj(x).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


class KeyMaskedLinear(nn.Linear):
    """Linear layer for q, k, v whose key bias is held at zero by the buffer `bias_mask`.

    A key bias adds the same number to a whole row of the softmax when there is no RoPE, so it does
    nothing; DINOv3 removes it.
    """

    bias_mask: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width, 3 * width)
        mask = torch.ones(3 * width)
        mask[width : 2 * width] = 0
        self.register_buffer("bias_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., 3 D)."""
        return functional.linear(x, self.weight, self.bias * self.bias_mask.to(self.bias.dtype))


class Attention(nn.Module):
    """Multi-head self-attention; q and k are turned where there is a rotation."""

    def __init__(self, width: int, heads: int, mask_key_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = KeyMaskedLinear(width) if mask_key_bias else nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        B, N, D = x.shape
        qkv = self.qkv(x).view(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, N, D_head)
        if rotation is not None:
            q, k = rotate(q, rotation).to(v.dtype), rotate(k, rotation).to(v.dtype)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, N, D))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers with exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.fc2(functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        mask_key_bias: bool,
        norm_eps: float,
        layer_scale: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads, mask_key_bias)
        self.ls1 = LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, hidden)
        self.ls2 = LayerScale(width, layer_scale)

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.ls1(self.attn(self.norm1(x), rotation))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]
