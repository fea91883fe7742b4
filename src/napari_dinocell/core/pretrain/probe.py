"""Segmentation from frozen features: how good a backbone is for what it is made for.

python -m napari_dinocell.core.pretrain.probe BACKBONE DATA

A small decoder is trained on frozen features for a few hundred steps, its thresholds are tuned on
training images, and OP_CSB is measured on validation images. The decoder and its training are the
same for all backbones, so figures of different backbones can be compared; a model that is trained
to the end is better.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

import torch
import typer

from napari_dinocell.core.console import run
from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.metrics import SetScore
from napari_dinocell.core.model.card import ModelCard, TargetCard
from napari_dinocell.core.model.decoder import UNetDecoder, UNetDecoderConfig
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.config import ProbeSettings
from napari_dinocell.core.pretrain.open import open_backbone
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.config import CropSettings, DataSettings
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.loss import map_loss
from napari_dinocell.core.training.optimizer import learning_rate
from napari_dinocell.core.training.records import CropRecords
from napari_dinocell.core.training.sources import open_datasets
from napari_dinocell.core.training.tuning import ThresholdGrid, tune_thresholds
from napari_dinocell.core.training.validation import evaluate, predict_maps

_LIFT, _DIAMETER, _RATE = 0.2, 30.0, 1e-3
_N_TUNING = 20  # images


@dataclass(frozen=True)
class ProbeResult:
    """Scores of a probe.

    Attributes
    ----------
    op_csb, ap50 : float
        Means over the data sets.
    per_set : dict of str to float
        OP_CSB of each.
    """

    op_csb: float
    ap50: float
    per_set: dict[str, float]


def probe(
    backbone: VisionTransformer,
    settings: ProbeSettings,
    device: torch.device,
    *,
    crop: int = 128,
    seed: int = 0,
) -> ProbeResult:
    """Train a decoder on frozen features and score it.

    Parameters
    ----------
    backbone : VisionTransformer
        Patch 8; its weights stay as they are, and take no gradient any more.
    crop : int
        Side of the training crops, px.
    seed : int
        Of crops and the decoder's first weights.

    Raises
    ------
    ValueError
        If no validation image has a cell.
    """
    source = DataSettings(source=settings.source, sets=settings.sets)
    training, validation = open_datasets(source)
    scores = train_and_score(
        backbone,
        training,
        _spread(validation, settings.images),
        device,
        steps=settings.steps,
        batch=settings.batch,
        crop=crop,
        seed=seed,
    )
    if not scores:
        raise ValueError(f"No validation image of {settings.source} has a cell to be scored on.")
    return ProbeResult(
        op_csb=fmean(score.op_csb for score in scores.values()),
        ap50=fmean(score.ap50 for score in scores.values()),
        per_set={name: score.op_csb for name, score in scores.items()},
    )


def train_and_score(
    backbone: VisionTransformer,
    training: LabeledDataset,
    validation: LabeledDataset,
    device: torch.device,
    *,
    steps: int,
    batch: int,
    crop: int = 128,
    seed: int = 0,
) -> dict[str, SetScore]:
    """Scores of the validation sets that have cells, by a decoder trained on frozen features."""
    network = _network(backbone, seed).to(device)
    network.freeze_encoder()
    records = CropRecords(
        training,
        CropSettings(size=crop, diameter=_DIAMETER, lift=_LIFT),
        AugmentConfig(),
        seed=seed,
        encoder=network,
        device=device,
    )
    _train(network, records, steps, batch)
    card = ModelCard(
        name="probe", architecture=network.architecture, diameter=_DIAMETER,
        target=TargetCard(kind="lifted", lift=_LIFT), peak=0.576, fill=0.13,
    )  # fmt: skip
    segmenter = Segmenter(network, card, device)
    tuning = predict_maps(segmenter, _spread(training, _N_TUNING))
    thresholds = tune_thresholds(tuning, ThresholdGrid.for_lift(_LIFT), rounds=1).thresholds
    sets = evaluate(predict_maps(segmenter, validation), thresholds).scores.sets
    scored = {name: result.score for name, result in sets.items()}
    return {name: score for name, score in scored.items() if not math.isnan(score.op_csb)}


def _network(backbone: VisionTransformer, seed: int) -> DINOCell:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = UNetDecoder(
            UNetDecoderConfig(inputs=backbone.config.width, widths=(64, 32, 16, 16), stem=0)
        )
    return DINOCell(backbone, decoder)


def _train(network: DINOCell, records: CropRecords, steps: int, batch_size: int) -> None:
    network.train()
    optimizer = torch.optim.AdamW(network.decoder.parameters(), lr=_RATE, weight_decay=0.01)
    warmup = min(20, steps)
    for step in range(steps):
        first = step * batch_size
        batch = records.batch(range(first, first + batch_size))
        assert batch.features is not None
        predicted = network.decode(batch.features, batch.image)
        loss = map_loss(predicted, batch.distance, batch.labels, balance=0.5)
        rate = learning_rate(step, steps, peak=_RATE, final=1e-6, warmup=warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()


def _spread(dataset: LabeledDataset, n: int) -> LabeledDataset:
    """At most n images, the same number of each set where there are as many, evenly over it."""
    names = sorted(set(dataset.set_names))
    chosen: list[int] = []
    for name in names:
        rows = [i for i, item in enumerate(dataset) if item.set_name == name]
        n_rows = min(len(rows), max(1, n // len(names)))
        chosen += [rows[i * len(rows) // n_rows] for i in range(n_rows)]
    return dataset.subset(chosen)


def probe_command(
    backbone: Annotated[str, typer.Argument(help="Backbone file or checkpoint.")],
    data: Annotated[str, typer.Argument(help="Labeled images.")],
    sets: Annotated[list[str] | None, typer.Option("--set", help="Use these sets only.")] = None,
    steps: Annotated[int, typer.Option(help="Of the decoder.")] = 300,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 8,
    images: Annotated[int, typer.Option(help="Validation images at most.")] = 40,
    encoder: Annotated[str, typer.Option(help="Layout of files that do not tell it.")] = "vits8",
    seed: Annotated[int, typer.Option(help="Of crops and decoder.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:n or mps.")] = "auto",
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Train a small decoder on frozen features and print its scores as JSON."""
    settings = ProbeSettings(
        source=data, sets=dict.fromkeys(sets, 1.0) if sets else None,
        steps=steps, batch=batch, images=images,
    )  # fmt: skip
    result = probe(open_backbone(backbone, encoder), settings, resolve_device(device), seed=seed)
    typer.echo(json.dumps({"OP_CSB": result.op_csb, "AP50": result.ap50, "sets": result.per_set}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(probe_command, argv, "python -m napari_dinocell.core.pretrain.probe")


if __name__ == "__main__":
    sys.exit(main())
