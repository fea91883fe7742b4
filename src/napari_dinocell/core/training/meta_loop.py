"""The meta-training loop: tasks in, a decoder that adapts in few steps out."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.instances import warm_up
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import load_model, save_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training import checkpoint
from napari_dinocell.core.training.config import dump_config
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.logbook import Logbook
from napari_dinocell.core.training.loop import stop_requests
from napari_dinocell.core.training.meta_config import MetaConfig
from napari_dinocell.core.training.meta_tasks import TaskFamily
from napari_dinocell.core.training.reptile import loss_after, reptile_step, state_of
from napari_dinocell.core.training.sources import open_datasets
from napari_dinocell.core.training.tuning import ThresholdGrid, tune_thresholds
from napari_dinocell.core.training.validation import predict_maps

logger = logging.getLogger(__name__)


def meta_train(config: MetaConfig) -> Path:
    """Find a decoder that adapts in few steps, and return the path of its model file.

    The encoder stays that of the base, and so do the statistics of the batch normalizations. The
    weights that are kept are those of the validation with the lowest loss after adapting.

    Parameters
    ----------
    config : MetaConfig

    Raises
    ------
    Cancelled
        On SIGTERM or SIGINT, after a checkpoint was written.
    FloatingPointError
        If the loss of a task is not finite.
    ValueError, FileNotFoundError, ModelFileError
        If data, base or a setting cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    training, validation = open_datasets(config.data)
    network, card = load_model(config.model, device=device)
    network.freeze_encoder()
    families = [
        TaskFamily(part, config.crops, config.augment, network, seed=config.seed)
        for part in (training, validation)
    ]
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    logger.info("%d tasks to train on, %d held out.", *map(len, families))
    logbook = Logbook(out, config.steps)
    try:
        with stop_requests() as stopped:
            _run(config, network, families, logbook, stopped)
    finally:
        logbook.close()
    return _write(config, network, card, training, validation)


def _run(
    config: MetaConfig,
    network: DINOCell,
    families: Sequence[TaskFamily],
    logbook: Logbook,
    stopped: Callable[[], bool],
) -> None:
    """Train, and leave the best weights in the network."""
    training, held_out = families
    out, inner = Path(config.out), config.inner
    step, best, best_decoder = 0, math.inf, state_of(network.decoder)
    state = checkpoint.load(config.resume, out)
    if state is not None:
        network.decoder.load_state_dict(state["decoder"])
        step, best, best_decoder = state["step"], state["best"], state["best_decoder"]
        logger.info("Going on from task %d.", step)

    def save() -> None:
        now = {"decoder": state_of(network.decoder), "best": best, "best_decoder": best_decoder}
        checkpoint.save(out, step, {**now, "config": dump_config(config)}, config.keep)

    while step < config.steps:
        # A task, a few steps of training on it, and a part of the way there.
        task = training.draw(step)
        batches = training.batches(task, step, inner.steps, inner.batch)
        rate = config.rate * (1 - step / config.steps)
        loss = reptile_step(network, batches, inner, rate)
        if not math.isfinite(loss):
            raise FloatingPointError(f"The loss of task {step} ({'/'.join(task)}) is {loss}.")
        step += 1

        # Write down, look at tasks that were held out, keep.
        if step % config.log_every == 0 or step == config.steps:
            logbook.write(step, {"loss": loss, "rate": rate})
        if step % config.validate_every == 0 or step == config.steps:
            before, after = _look(network, held_out, config)
            logbook.write(step, {"held_out": before, "held_out_adapted": after})
            if after < best:
                best, best_decoder = after, state_of(network.decoder)
        if step % config.checkpoint_every == 0 or step == config.steps:
            save()
        if stopped() and step < config.steps:
            save()
            logger.warning("Stopped after task %d; the checkpoint is in %s.", step, out)
            raise Cancelled
    network.decoder.load_state_dict(best_decoder)


def _look(network: DINOCell, held_out: TaskFamily, config: MetaConfig) -> tuple[float, float]:
    """Mean loss on held-out tasks before and after adapting to each; always the same crops."""
    inner = config.inner
    losses = []
    for number in range(config.validation_tasks):
        task = held_out.draw(number)
        *support, query = held_out.batches(task, number, inner.steps + 1, inner.batch)
        losses.append(loss_after(network, support, query, inner))
    before, after = np.mean(losses, axis=0)
    return float(before), float(after)


def _write(
    config: MetaConfig,
    network: DINOCell,
    base: ModelCard,
    training: LabeledDataset,
    validation: LabeledDataset,
) -> Path:
    """Tune the thresholds on whole images and write the model, with its encoder."""
    warm_up()
    cases = predict_maps(Segmenter(network, base, config.device), validation, diameter="given")
    tuned = tune_thresholds(cases, ThresholdGrid.for_lift(base.target.lift))
    at = tuned.thresholds
    card = base.model_copy(
        update={
            "name": config.name,
            "peak": at.peak,
            "fill": at.fill,
            "min_area": at.min_area,
            "min_prominence": at.min_prominence,
            "confidence": {},  # of other maps
            "data": tuple(sorted({*base.data, *training.set_names})),
            "licenses": base.licenses | config.licenses,
            "command": "python -m napari_dinocell.core.meta_train (config.yaml beside the model)",
            "seed": config.seed,
            "scores": {"validation": {"objective": tuned.objective}},
            "notes": f"Meta-learned (Reptile) from {base.name}; made to be adapted.",
        }
    )
    path = Path(config.out) / f"{config.name}.safetensors"
    save_model(path, network, card, full=True)
    logger.info("The model is %s.", path)
    return path
