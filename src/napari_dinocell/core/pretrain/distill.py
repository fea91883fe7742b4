"""Turn a backbone with learned positions (DINOv2) into the DINOv3 form, and teach that what it knew.

python -m napari_dinocell.core.pretrain.distill DINOV2_FILE FIELDS --out START.safetensors

Without its table of positions, with RoPE and with storage tokens, the same weights see less than
they did. So the backbone in its old form teaches the new one on unlabeled fields, block by block:
every token of a block should point where the teacher's does (the mean squared error of layer-normed
tokens, as hints of FitNets, arXiv:1412.6550). The result is a start for `train_ssl`.
"""

import json
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, NamedTuple

import torch
import typer
from torch import Tensor, nn

from napari_dinocell.core.console import run
from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.model.network import IMAGENET_MEAN, IMAGENET_STD
from napari_dinocell.core.model.position import Rotation
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.model.weights import load_weights
from napari_dinocell.core.pretrain.batches import Batches
from napari_dinocell.core.pretrain.config import DataSettings, SSLConfig, ViewSettings
from napari_dinocell.core.pretrain.open import open_backbone
from napari_dinocell.core.pretrain.run import open_stream
from napari_dinocell.core.pretrain.sources import open_fields
from napari_dinocell.core.pretrain.targets import micro_batches
from napari_dinocell.core.training.distributed import World
from napari_dinocell.core.training.optimizer import learning_rate
from napari_dinocell.core.training.setup import training_dtype

_log = logging.getLogger(__name__)
_CLIP, _DECAY, _N_MEASURED, _ZOOM = 3.0, 0.04, 16, 320 / 224


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


def distill(
    teacher: VisionTransformer,
    student: VisionTransformer,
    batches: Iterable[Tensor],
    *,
    steps: int,
    lr: float = 1e-4,
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """Train the student to agree with the teacher; the patches' distance at each step.

    Parameters
    ----------
    teacher, student : VisionTransformer
        Of the same width, depth and patch, on one device. The student is changed.
    batches : iterable of (B, 1 or 3, Y, X) tensors
        At least `steps`.
    lr : float
        Largest rate of AdamW: a tenth of the steps to rise, then a cosine to 1 %.
    dtype : torch.dtype
        Of the forward passes.
    """
    teacher.eval()
    student.train()
    matrices = [p for p in student.parameters() if p.ndim > 1]
    rest = [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": _DECAY}, {"params": rest, "weight_decay": 0.0}]
    )
    history: list[float] = []
    begin = time.perf_counter()
    for step, crops in zip(range(steps), batches, strict=False):
        with torch.autocast(crops.device.type, dtype, enabled=dtype != torch.float32):
            apart = distance(teacher, student, crops)
        optimizer.zero_grad(set_to_none=True)
        loss = apart.cls + apart.patches
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), _CLIP)
        rate = learning_rate(step, steps, peak=lr, final=lr / 100, warmup=max(1, steps // 10))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        cls, patches = float(apart.cls.detach()), float(apart.patches.detach())
        if not math.isfinite(cls + patches):
            raise FloatingPointError(f"The distance of step {step} is not finite; lower --lr.")
        history.append(patches)
        if (step + 1) % 20 == 0 or step + 1 == steps:
            left = (time.perf_counter() - begin) / (step + 1) * (steps - step - 1)
            _log.info(
                "step %d/%d  patches %.4f  cls %.4f  %.0f s left",
                step + 1, steps, fmean(history[-20:]), cls, left,
            )  # fmt: skip
    student.eval()
    return history


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


def _crops(config: SSLConfig, device: torch.device) -> Iterator[Tensor]:
    """Augmented crops (2 B, 1 or 3, S, S) of training fields: the mean of channels, and single ones."""
    stream = open_stream(config, open_fields(config.data)[0], World(0, 1, 0))
    batches = Batches(stream, device, config)
    try:
        for batch in batches:
            (part,) = micro_batches(batch, 0)
            yield part.crops.globals.flatten(0, 1)
    finally:
        batches.close()


def distill_command(
    backbone: Annotated[str, typer.Argument(help="File with learned positions, as DINOv2's.")],
    data: Annotated[list[str], typer.Argument(help="Manifests, folders of multi-channel TIFFs.")],
    out: Annotated[Path, typer.Option(help="Backbone file that is written.")],
    encoder: Annotated[
        str, typer.Option(help="Layout of files that do not tell it.")
    ] = "vits8-learned",
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Tiles per step; two crops of each.")] = 16,
    size: Annotated[int, typer.Option(min=16, help="Side of the crops, px.")] = 224,
    tiles_per_field: Annotated[int, typer.Option(min=1, help="Of one fetch.")] = 1,
    lr: Annotated[float, typer.Option(help="Largest rate.")] = 1e-4,
    axes: Annotated[str | None, typer.Option(help="Of files that do not name theirs.")] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="Resample fields to it.")] = None,
    seed: Annotated[int, typer.Option(help="Of order, crops and storage tokens.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:n or mps.")] = "auto",
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Turn a DINOv2 backbone into the DINOv3 form and teach it to agree with what it was."""
    config = SSLConfig(
        name=out.stem, out=str(out.parent), batch=batch, seed=seed, steps_per_epoch=steps, epochs=1,
        data=DataSettings(
            sources=tuple(data), axes=axes, pixel_size_um=pixel_size_um,
            tile=round(size * _ZOOM), tiles_per_field=tiles_per_field,
        ),
        views=ViewSettings(global_size=size, n_local=0),
    )  # fmt: skip
    place = resolve_device(device)
    teacher = open_backbone(backbone, encoder).to(place)
    student = dinov3_form(teacher, seed).to(place)
    crops = _crops(config, place)
    measured = [next(crops) for _ in range(max(1, _N_MEASURED // batch))]  # not trained on
    before = _measured(teacher, student, measured)
    dtype = training_dtype("auto", place)
    distill(teacher, student, crops, steps=steps, lr=lr, dtype=dtype)
    after = _measured(teacher, student, measured)
    about = {"method": "distilled into the DINOv3 form", "from": Path(backbone).name}
    save_backbone(out, student, about)
    typer.echo(json.dumps({"before": before, "after": after, "steps": steps}))


@torch.no_grad()
def _measured(
    teacher: VisionTransformer, student: VisionTransformer, crops: Sequence[Tensor]
) -> dict[str, float]:
    found = [distance(teacher, student.eval(), some) for some in crops]
    return {
        "cls": fmean(float(d.cls) for d in found),
        "patches": fmean(float(d.patches) for d in found),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(distill_command, argv, "python -m napari_dinocell.core.pretrain.distill")


if __name__ == "__main__":
    sys.exit(main())
