"""Convolution blocks shared by the decoders, and folding of their batch normalization."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalization, optional ReLU."""

    norm: nn.Module

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    @property
    def is_folded(self) -> bool:
        """Whether `fold_batch_norm` has put the normalization into the convolution."""
        return isinstance(self.norm, nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, outputs, Y/stride, X/stride)."""
        x = self.norm(self.conv(x))
        return functional.relu(x) if self.relu else x


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut; the widths in and out are the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = ConvNorm(width, width, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C, Y, X)."""
        return functional.relu(x + self.second(self.first(x)))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, Y, X); no copy when memory is channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C, Y, X)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def fold_batch_norm(module: ModuleT) -> ModuleT:
    """Copy of a module in evaluation mode whose batch normalizations are folded into convolutions.

    The copy computes the same function up to rounding and cannot be trained with batch statistics
    any more. `module` is left as it is.
    """
    folded = copy.deepcopy(module).eval()
    for part in folded.modules():
        if isinstance(part, ConvNorm) and isinstance(part.norm, nn.BatchNorm2d):
            part.conv = fuse_conv_bn_eval(part.conv, part.norm)
            part.norm = nn.Identity()
    return folded
