"""The supervised training loop, readable from top to bottom."""

import copy
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.training import checkpoint
from napari_dinocell.core.training.config import Config, dump_config
from napari_dinocell.core.training.distributed import World, average, barrier, own_device, world
from napari_dinocell.core.training.logbook import Logbook
from napari_dinocell.core.training.loss import map_loss, taught
from napari_dinocell.core.training.optimizer import (
    learning_rate,
    parameter_groups,
    set_rate,
    update_average,
)
from napari_dinocell.core.training.records import sample_index
from napari_dinocell.core.training.scoring import Scorer
from napari_dinocell.core.training.setup import Run, TrainStep, prepare

logger = logging.getLogger(__name__)


def train(config: Config) -> Path:
    """Train a network as configured and return the path of the model file.

    Every process of a distributed run calls this with the same configuration.

    Raises
    ------
    Cancelled
        On SIGTERM or SIGINT, after a checkpoint was written.
    FloatingPointError
        If the loss is not finite; names the crops of the batch.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    with world(device.type) as place, stop_requests() as stopped:
        device = own_device(device, place)
        torch.manual_seed(config.seed)
        run = prepare(config, place, device)
        with _logbook(config, place) as logbook:
            return _run(config, run, place, device, logbook, stopped)


def _run(
    config: Config,
    run: Run,
    place: World,
    device: torch.device,
    logbook: Logbook | None,
    stopped: Callable[[], bool],
) -> Path:
    out = Path(config.out)
    averaged = copy.deepcopy(run.trained)  # what is scored and shipped
    settings = config.optimizer
    groups = parameter_groups(
        run.network,
        weight_decay=settings.weight_decay,
        encoder_scale=settings.encoder_lr_scale,
        layer_decay=settings.layer_decay,
    )
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    scorer = Scorer(config, run, device)
    step = 0
    state = checkpoint.load(config.resume, out)
    if state is not None:
        run.trained.load_state_dict(state["trained"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        scorer.best, step = state["best"], state["step"]
        logger.info("Going on from step %d.", step)
    model: nn.Module = TrainStep(run.network)
    if place.size > 1:
        model = DistributedDataParallel(model)

    def save() -> None:
        if place.is_main:
            now = {
                "trained": run.trained.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "best": scorer.best,
                "config": dump_config(config),
            }
            checkpoint.save(out, step, now, config.keep)
        barrier()

    while step < config.steps:
        # Which crops: a function of seed and step alone.
        first = step * config.batch
        crops = config.crops
        indices = [
            sample_index(first + i, pool=crops.pool, seed=config.seed)
            for i in place.slice(config.batch)
        ]
        batch = run.records.batch(indices)

        # Forward and backward.
        rate = learning_rate(
            step, config.steps, peak=settings.lr, final=settings.final_lr, warmup=settings.warmup
        )
        set_rate(optimizer, rate)
        model.train()
        with torch.autocast(device.type, run.dtype, enabled=run.dtype != torch.float32):
            predicted = model(batch.image, batch.features)
        target, labels = batch.distance, batch.labels
        if config.distill is not None and batch.teacher is not None:
            target, labels = taught(target, labels, batch.teacher, config.distill.weight)
        loss = map_loss(
            predicted,
            target,
            labels,
            balance=config.loss.balance,
            gradient=config.loss.gradient,
        )
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss of step {step} is {loss.item()}; crops {list(batch.indices)} of seed {config.seed}."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(run.trained.parameters(), settings.clip)
        optimizer.step()
        update_average(averaged, run.trained, settings.ema, step)
        step += 1

        # Write down, score, keep.
        if step % config.log_every == 0 or step == config.steps:
            mean_loss = average(loss.item(), device)
            if logbook is not None:
                logbook.write(step, {"loss": mean_loss, "lr": rate, "gradient_norm": norm.item()})
                if logbook.wants_pictures:
                    logbook.histograms(step, _gradients(run.trained))
        if step % config.validate_every == 0 or step == config.steps:
            if logbook is not None:
                logbook.write(step, scorer.score(averaged, step))
                if logbook.wants_pictures:
                    logbook.picture(step, "validation", scorer.picture())
            barrier()
        if step % config.checkpoint_every == 0 or step == config.steps:
            save()
        if stopped():
            save()
            logger.warning("Stopped after step %d; the checkpoint is in %s.", step, out)
            raise Cancelled
    if place.is_main:
        logger.info("The best model is %s.", scorer.path)
    return scorer.path


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a callable that tells whether SIGTERM or SIGINT has come; a second SIGINT kills."""
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if signum == signal.SIGINT and received.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _logbook(config: Config, place: World) -> Iterator[Logbook | None]:
    """Log of the run, in the main process; the others have none."""
    if not place.is_main:
        yield None
        return
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    logbook = Logbook(
        out,
        config.steps,
        wandb=config.wandb,
        project=config.wandb_project,
        name=config.name,
        config=config.model_dump(mode="json"),
    )
    try:
        yield logbook
    finally:
        logbook.close()


def _gradients(module: nn.Module) -> dict[str, Any]:
    """Gradients by top-level part, for histograms."""
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            parts.setdefault(f"gradients/{name.split('.')[0]}", []).append(parameter.grad.flatten())
    return {name: torch.cat(values).float().cpu().numpy() for name, values in parts.items()}
