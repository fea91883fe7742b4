"""Turn a backbone with learned positions (DINOv2) into the DINOv3 form, and teach that what it knew.

python -m napari_dinocell.core.pretrain.distill DINOV2_FILE FIELDS --out START.safetensors

The result is a start for `train_ssl`. A run that was stopped or killed goes on from its newest
checkpoint when the command is given again.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from napari_dinocell.core.console import run
from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.batches import Batches
from napari_dinocell.core.pretrain.config import DataSettings, SSLConfig, ViewSettings
from napari_dinocell.core.pretrain.distillation import Distillation, dinov3_form, distance
from napari_dinocell.core.pretrain.open import open_backbone
from napari_dinocell.core.pretrain.run import open_stream
from napari_dinocell.core.pretrain.sources import open_fields
from napari_dinocell.core.pretrain.targets import micro_batches
from napari_dinocell.core.training import checkpoint
from napari_dinocell.core.training.distributed import World
from napari_dinocell.core.training.loop import stop_requests
from napari_dinocell.core.training.setup import training_dtype

_log = logging.getLogger(__name__)
_N_MEASURED, _ZOOM, _LOG_EVERY, _KEEP = 16, 320 / 224, 20, 2


class _Crops:
    """Augmented crops (2 B, 1 or 3, S, S) of training fields: the mean of channels, and single ones."""

    def __init__(
        self, config: SSLConfig, device: torch.device, state: dict[str, Any] | None = None
    ) -> None:
        stream = open_stream(config, open_fields(config.data)[0], World(0, 1, 0))
        if state is not None:
            stream.load_state_dict(state)
        self._batches = Batches(stream, device, config)

    def __enter__(self) -> "_Crops":
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.close()

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        (part,) = micro_batches(next(self._batches), 0)
        return part.crops.globals.flatten(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """What comes next."""
        return self._batches.state_dict()


def _train(
    training: Distillation,
    crops: _Crops,
    folder: Path,
    checkpoint_every: int,
    stopped: Callable[[], bool],
) -> None:
    """Take all steps that are left."""
    first, begin = training.step, time.perf_counter()
    recent: list[float] = []

    def save() -> None:
        state = training.state() | {"data": crops.state_dict()}
        checkpoint.save(folder, training.step, state, _KEEP)

    while training.step < training.steps:
        apart = training.advance(next(crops))
        recent = [*recent, float(apart.patches)][-_LOG_EVERY:]
        step, is_last = training.step, training.step == training.steps
        if step % _LOG_EVERY == 0 or is_last:
            left = (time.perf_counter() - begin) / (step - first) * (training.steps - step)
            _log.info(
                "step %d/%d  patches %.4f  cls %.4f  %.0f s left",
                step, training.steps, fmean(recent), float(apart.cls), left,
            )  # fmt: skip
        if step % checkpoint_every == 0 or is_last:
            save()
        if stopped() and not is_last:
            save()
            _log.warning("Stopped after step %d; the checkpoint is in %s.", step, folder)
            raise Cancelled


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
    resume: Annotated[
        str, typer.Option(help="auto: newest good checkpoint beside the result; never; or a file.")
    ] = "auto",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps.")] = 100,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Turn a DINOv2 backbone into the DINOv3 form and teach it to agree with what it was.

    SIGTERM and Ctrl-C write a checkpoint first; the same command then goes on.
    """
    config = SSLConfig(
        name=out.stem, out=str(out.parent), batch=batch, seed=seed, steps_per_epoch=steps, epochs=1,
        data=DataSettings(
            sources=tuple(data), axes=axes, pixel_size_um=pixel_size_um,
            tile=round(size * _ZOOM), tiles_per_field=tiles_per_field,
        ),
        views=ViewSettings(global_size=size, n_local=0),
    )  # fmt: skip
    place = resolve_device(device)
    folder = out.with_name(f"{out.stem}-checkpoints")
    state = checkpoint.load(resume, folder)
    teacher = open_backbone(backbone, encoder).to(place)
    student = dinov3_form(teacher, seed).to(place)
    with _Crops(config, place) as crops:
        measured = [next(crops) for _ in range(max(1, _N_MEASURED // batch))]  # not trained on
        begin = crops.state_dict()
    before = _measured(teacher, student, measured)
    dtype = training_dtype("auto", place)
    training = Distillation(teacher, student, steps=steps, lr=lr, dtype=dtype)
    if state is not None:
        training.load_state(state)
        begin = state["data"]
        _log.info("Going on from step %d.", training.step)
    with _Crops(config, place, begin) as crops, stop_requests() as stopped:
        _train(training, crops, folder, checkpoint_every, stopped)
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
