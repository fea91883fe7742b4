"""A backbone with learned positions (DINOv2) teaches its DINOv3 form what it knew itself.

Without its table of positions, with RoPE and with storage tokens, the same weights see less than
they did. So the backbone in its old form teaches the new one on unlabeled fields, block by block:
every token of a block should point where the teacher's does (the mean squared error of layer-normed
tokens, as hints of FitNets, arXiv:1412.6550).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_dinocell.core.model.network import IMAGENET_MEAN, IMAGENET_STD
from napari_dinocell.core.model.position import Rotation
from napari_dinocell.core.model.store import tensors_sha256
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.model.weights import load_weights
from napari_dinocell.core.training.optimizer import learning_rate

_CLIP, _DECAY = 3.0, 0.04


class Distance(NamedTuple):
    """How far a student is from its teacher: 0 for the same, 2 for unrelated directions.

    Means over the blocks whose outputs the decoder uses, of the CLS token and of the patches.
    """

    cls: Tensor
    patches: Tensor


def dinov3_form(backbone: VisionTransformer, seed: int = 0) -> VisionTransformer:
    """The same weights in the DINOv3 form: RoPE, four storage tokens, no key bias, eps 1e-5.

    The CLS token keeps its own position, patches lose theirs; storage tokens are drawn from `seed`.

    Raises
    ------
    ValueError
        If the backbone has no learned positions.
    """
    if backbone.config.position != "learned":
        raise ValueError("This backbone has RoPE already; give one with learned positions.")
    change = {"position": "rope", "n_storage_tokens": 4, "mask_key_bias": True, "norm_eps": 1e-5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = VisionTransformer(backbone.config.model_copy(update=change))
    new = () if backbone.config.n_storage_tokens else ("storage_tokens",)
    load_weights(student, backbone.state_dict(), optional=new)
    return student


def distance(teacher: VisionTransformer, student: VisionTransformer, crops: Tensor) -> Distance:
    """Distance on crops (B, 1 or 3, Y, X) with normalized intensities; no gradient to the teacher."""
    mean, std = (
        torch.tensor(v, device=crops.device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD)
    )
    images = (crops.float() - mean) / std
    with torch.no_grad():
        wanted = _block_tokens(teacher, images)
    found = _block_tokens(student, images)
    errors = [
        (_directions(a) - _directions(b)).square().mean(dim=(0, 2))
        for a, b in zip(wanted, found, strict=True)
    ]  # each (1 + N,)
    return Distance(
        torch.stack([error[0] for error in errors]).mean(),
        torch.stack([error[1:].mean() for error in errors]).mean(),
    )


class Distillation:
    """A student that is trained to agree with its teacher.

    Parameters
    ----------
    teacher, student : VisionTransformer
        Of the same width, depth and patch, on one device. The student is changed.
    steps : int
        Of the whole training.
    lr : float
        Largest rate of AdamW: a tenth of the steps to rise, then a cosine to 1 %.
    dtype : torch.dtype
        Of the forward passes.

    Attributes
    ----------
    step : int
        Steps done.
    """

    def __init__(
        self,
        teacher: VisionTransformer,
        student: VisionTransformer,
        *,
        steps: int,
        lr: float = 1e-4,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.teacher, self.student = teacher.eval(), student.train()
        self.steps, self.step = steps, 0
        self._lr, self._dtype = lr, dtype
        matrices = [p for p in student.parameters() if p.ndim > 1]
        rest = [p for p in student.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": _DECAY}, {"params": rest, "weight_decay": 0.0}]
        )

    def advance(self, crops: Tensor) -> Distance:
        """One step on crops (B, 1 or 3, Y, X); the distance before it.

        Raises
        ------
        FloatingPointError
            If the distance is not finite.
        """
        with torch.autocast(crops.device.type, self._dtype, enabled=self._dtype != torch.float32):
            apart = distance(self.teacher, self.student, crops)
        loss = apart.cls + apart.patches
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"The distance of step {self.step} is not finite; lower --lr.")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), _CLIP)
        warmup = max(1, self.steps // 10)
        rate = learning_rate(
            self.step, self.steps, peak=self._lr, final=self._lr / 100, warmup=warmup
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self.step += 1
        return Distance(apart.cls.detach(), apart.patches.detach())

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for its crops."""
        return {
            "student": self.student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "teacher": tensors_sha256(self.teacher.state_dict()),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If it is of another teacher, or none of a distillation.
        """
        if state.get("teacher") != tensors_sha256(self.teacher.state_dict()):
            raise ValueError(
                "The checkpoint is of another backbone; give another --out, or --resume never."
            )
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])


def _block_tokens(backbone: VisionTransformer, images: Tensor) -> list[Tensor]:
    """(B, 1 + N, D) CLS and patch tokens after each block that the decoder uses."""
    kept: list[Tensor] = []

    def keep(block: nn.Module, index: int, tokens: Tensor, rotation: Rotation | None) -> Tensor:
        tokens = block(tokens, rotation)
        if index in backbone.config.levels:
            kept.append(torch.cat([tokens[:, :1], tokens[:, backbone.n_prefix :]], dim=1))
        return tokens

    backbone(images, run=keep)
    return kept


def _directions(tokens: Tensor) -> Tensor:
    return nn.functional.layer_norm(tokens.float(), tokens.shape[-1:])
