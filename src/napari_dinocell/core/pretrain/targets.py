"""What the teacher says about a step: targets for CLS tokens, masked patches, other channels.

Sinkhorn-Knopp couples all samples of a step. With gradient accumulation the teacher therefore sees
all micro-batches first, and the targets of a step do not depend on how it is cut up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_dinocell.core.pretrain.batches import Batch
from napari_dinocell.core.pretrain.network import SelfSupervisedNetwork
from napari_dinocell.core.pretrain.sinkhorn import sinkhorn_knopp
from napari_dinocell.core.pretrain.views import Crops, render_views


@dataclass(frozen=True)
class MicroBatch:
    """Rendered crops of some samples, and which patches have targets.

    Attributes
    ----------
    crops : Crops
        Of b samples; V = G * b global crops in the order crop index first, then sample.
    masks : (V, N) bool tensor
        Patches that the student does not see.
    chosen : (V, N) bool tensor or None
        Patches with a cross-channel target.
    """

    crops: Crops
    masks: Tensor
    chosen: Tensor | None

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self.crops.globals.shape[1]


@dataclass(frozen=True)
class Targets:
    """Probabilities of the prototypes, for one micro-batch.

    Attributes
    ----------
    dino : (G, b, K) tensor
    ibot : (M, K) tensor
        At the masked patches, row by row.
    cross : (T, K) tensor or None
        At the chosen patches of the crops in another channel.
    """

    dino: Tensor
    ibot: Tensor
    cross: Tensor | None


def micro_batches(batch: Batch, size: int) -> list[MicroBatch]:
    """Render a batch in parts of `size` samples (0: in one)."""
    n, size = len(batch.views), size or len(batch.views)
    if n % size:
        raise ValueError(
            f"A process has {n} tiles per step, which cannot be cut into parts of {size}; change "
            "batch or micro_batch."
        )
    parts = []
    for start in range(0, n, size):
        rows = slice(start, start + size)
        crops = render_views(batch.tiles[rows], batch.views[rows])
        chosen = None
        if batch.visible is not None and crops.has_answer is not None:
            chosen = batch.visible[:, rows].flatten(0, 1) & crops.has_answer.flatten()[:, None]
        parts.append(MicroBatch(crops, batch.masks[:, rows].flatten(0, 1), chosen))
    return parts


@torch.no_grad()
def teacher_targets(
    teacher: SelfSupervisedNetwork,
    parts: Sequence[MicroBatch],
    temperature: float,
    *,
    n_iterations: int = 3,
    dtype: torch.dtype = torch.float32,
) -> list[Targets]:
    """Targets of all micro-batches of a step, balanced over all of them and all processes.

    Parameters
    ----------
    dtype : torch.dtype
        Of the forward passes.
    """
    cls, masked, answered = [], [], []
    for part in parts:
        crops = part.crops
        with torch.autocast(part.masks.device.type, dtype, enabled=dtype != torch.float32):
            seen = teacher.tokens(crops.globals.flatten(0, 1))
            cls.append(teacher.dino_head(seen.cls).unflatten(0, (-1, part.n_samples)))
            masked.append(teacher.ibot_head(seen.patches[part.masks]))
            if crops.answers is not None:
                other = teacher.tokens(crops.answers.flatten(0, 1))
                answered.append(teacher.ibot_head(other.patches[part.chosen]))

    def balanced(logits: Sequence[Tensor]) -> list[Tensor]:
        targets = sinkhorn_knopp(torch.cat(list(logits)), temperature, n_iterations=n_iterations)
        return list(torch.split(targets, [len(rows) for rows in logits]))

    dino = balanced([logits.flatten(0, 1) for logits in cls])
    ibot = balanced(masked)
    cross = balanced(answered) if answered else [None] * len(parts)
    return [
        Targets(d.view_as(logits), i, c)
        for d, logits, i, c in zip(dino, cls, ibot, cross, strict=True)
    ]
