"""What the student's backbone undergoes in training and the teacher's does not.

Stochastic depth (Huang et al. 2016, arXiv:1603.09382) on a subset of the batch, as in DINOv2: the
samples that skip a branch are not computed at all. Rescaled patch coordinates, as in DINOv3
(arXiv:2508.10104). Both are drawn from a key, so that a run that goes on draws the same. Activation
checkpointing and compilation are here too, because they also are ways to run a block.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_dinocell.core.model.position import CoordinateChange, Rotation
from napari_dinocell.core.model.vit import CoordinateDraw

Branch = Callable[[nn.Module, Tensor, Rotation | None], Tensor]


def rescaled_coordinates(largest: float, key: Sequence[int]) -> CoordinateDraw | None:
    """Draw one scale for both axes per block, evenly on the logarithm of [1 / largest, largest].

    Parameters
    ----------
    largest : float
        1 changes nothing.
    key : sequence of int
        The same for all processes of a step: all see the same positions.
    """
    if largest == 1.0:
        return None

    def draw(block: int) -> CoordinateChange:
        rng = np.random.default_rng([*key, block])
        scale = math.exp(rng.uniform(-math.log(largest), math.log(largest)))
        return CoordinateChange(torch.zeros(2), torch.full((2,), scale))

    return draw


class BlockRunning:
    """Runs the two residual branches of each block.

    Parameters
    ----------
    drop_path : float
        Share of the samples that skip a branch.
    recompute : bool
        Keep only the input of each block and compute it again for the gradient.
    compiled : bool
        Compile the branches; each size of crop is compiled once.
    """

    def __init__(
        self, drop_path: float = 0.0, *, recompute: bool = False, compiled: bool = False
    ) -> None:
        self.drop_path, self._recompute = drop_path, recompute
        self._branches: tuple[Branch, Branch] = (attend, transform)
        if compiled:
            self._branches = (torch.compile(attend), torch.compile(transform))

    def keyed(
        self, key: Sequence[int]
    ) -> Callable[[nn.Module, int, Tensor, Rotation | None], Tensor]:
        """Runner of one forward pass, whose subsets are a function of `key`."""

        def run(block: nn.Module, index: int, tokens: Tensor, rotation: Rotation | None) -> Tensor:
            kept = self._kept(len(tokens), [*key, index], tokens.device)
            if self._recompute and torch.is_grad_enabled():
                result: Tensor = checkpoint(
                    self._block,
                    block, tokens, rotation, kept,
                    use_reentrant=False, preserve_rng_state=False,
                )  # fmt: skip
                return result
            return self._block(block, tokens, rotation, kept)

        return run

    def _block(
        self,
        block: nn.Module,
        tokens: Tensor,
        rotation: Rotation | None,
        kept: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        for which, branch in enumerate(self._branches):
            if kept is None:
                tokens = tokens + branch(block, tokens, rotation)
            else:
                rows = kept[which]
                change = branch(block, tokens[rows], rotation)
                # Scaled, so that the expected change is that of the whole branch.
                scale = len(tokens) / len(rows)
                tokens = torch.index_add(tokens.to(change.dtype), 0, rows, change, alpha=scale)
        return tokens

    def _kept(
        self, n: int, key: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor] | None:
        """Samples that take each branch; None for all."""
        n_kept = max(1, round(n * (1.0 - self.drop_path)))
        if n_kept == n:
            return None
        rng = np.random.default_rng(key)
        drawn = np.stack([rng.permutation(n)[:n_kept] for _ in range(2)])
        rows = torch.from_numpy(drawn).to(device)
        return rows[0], rows[1]


def attend(block: nn.Module, tokens: Tensor, rotation: Rotation | None) -> Tensor:
    """Attention branch of a block."""
    return block.ls1(block.attn(block.norm1(tokens), rotation))  # type: ignore[operator, no-any-return]


def transform(block: nn.Module, tokens: Tensor, rotation: Rotation | None) -> Tensor:
    """MLP branch of a block; `rotation` plays no part."""
    return block.ls2(block.mlp(block.norm2(tokens)))  # type: ignore[operator, no-any-return]
