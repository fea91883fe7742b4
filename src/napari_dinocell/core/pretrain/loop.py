"""The pre-training loop, readable from top to bottom."""

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.pretrain.batches import Batch, Batches
from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.monitor import Monitor
from napari_dinocell.core.pretrain.optimizer import follow_plan
from napari_dinocell.core.pretrain.run import Run, prepare
from napari_dinocell.core.pretrain.sharding import whole
from napari_dinocell.core.pretrain.start import check_initial_losses
from napari_dinocell.core.pretrain.step import forward_backward
from napari_dinocell.core.pretrain.strategies import make_strategy
from napari_dinocell.core.pretrain.teacher import update_teacher
from napari_dinocell.core.training import checkpoint
from napari_dinocell.core.training.config import dump_config
from napari_dinocell.core.training.distributed import any_process, barrier, own_device, world
from napari_dinocell.core.training.loop import stop_requests
from napari_dinocell.core.writing import whole_file

_log = logging.getLogger(__name__)


def pretrain(config: SSLConfig) -> Path:
    """Pre-train a backbone as configured and return the path of the teacher's file.

    Every process of a distributed run calls this with the same configuration.

    Raises
    ------
    Cancelled
        On SIGTERM or SIGINT, after a checkpoint was written.
    FloatingPointError
        If the loss is not finite; the batch is written down beside the checkpoints.
    RuntimeError
        If the heads did not learn in their stage (see `start.Gate`).
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    with world(device.type) as place, stop_requests() as stopped:
        run = prepare(config, place, own_device(device, place))
        state = checkpoint.load(config.resume, Path(config.out))
        if state is not None:
            run.load_state(state)
        batches = Batches(run.stream, run.device, config)
        with Monitor(run) as monitor:
            try:
                return _run(run, batches, monitor, stopped)
            finally:
                batches.close()


def _run(run: Run, batches: Batches, monitor: Monitor, stopped: Callable[[], bool]) -> Path:
    config, plan, out = run.config, run.plan, Path(run.config.out)
    network, teacher = run.student.network, run.teacher
    n_masked = masked_share(config, make_strategy(config.views.strategy).n_global)
    model = run.model()
    saved_at = run.step

    def save() -> None:
        nonlocal saved_at
        state = run.state(batches.state_dict())
        if run.place.is_main and saved_at != run.step:
            checkpoint.save(out, run.step, state, config.keep)
        saved_at = run.step
        barrier()

    while run.step < len(plan):
        if run.step == plan.n_heads > 0:  # the heads' stage is over
            run.gate.check(n_masked)
            model = run.model()
        begin = time.perf_counter()
        batch = next(batches)

        # Losses and gradients.
        run.optimizer.zero_grad(set_to_none=True)
        losses, targets = forward_backward(
            model,
            teacher,
            batch,
            config,
            step=run.step,
            temperature=float(plan.temperature[run.step]),
            anchor=run.anchor,
            rank=run.place.rank,
            dtype=run.dtype,
        )
        values = losses.over_processes()
        norms = {
            name: whole(nn.utils.clip_grad_norm_(part.parameters(), config.optimizer.clip))
            for name, part in network.named_children()
        }
        if not all(math.isfinite(v) for v in (values["total"], *map(float, norms.values()))):
            raise FloatingPointError(_write_down(run, batch, values))
        if run.step == 0 and config.model.heads is None:
            check_initial_losses(values["dino"], values["ibot"], config, n_masked)
        run.gate.note(values["dino"], values["ibot"])

        # Student and teacher move.
        follow_plan(run.optimizer, plan, run.step)
        run.optimizer.step()
        update_teacher(teacher, network, float(plan.momentum[run.step]))
        run.step += 1

        # Write down, look, keep.
        monitor.note(time.perf_counter() - begin, batches.seconds_waited)
        if run.step % config.log_every == 0 or run.step == len(plan):
            monitor.write(values, norms, targets)
        if config.look_every and run.step % config.look_every == 0:
            monitor.look()
        if config.probe is not None and run.step % config.probe.every == 0:
            monitor.probe()
        if run.step % config.checkpoint_every == 0 or run.step == len(plan):
            save()
        if any_process(stopped(), run.device):
            save()
            _log.warning("Stopped after step %d; the checkpoint is in %s.", run.step, out)
            raise Cancelled
    path = out / f"{config.name}.safetensors"
    backbone = run.whole_backbone()
    if backbone is not None:
        about = {"method": "DINO + iBOT + KoLeo", "config": dump_config(config)}
        save_backbone(path, backbone, about)
        _log.info("The teacher's backbone is %s.", path)
    barrier()
    return path


def masked_share(config: SSLConfig, n_global: int) -> float:
    """Share of a step's global crops that have a mask: the iBOT loss of new heads over ln K."""
    n_crops = n_global * config.batch
    return int(n_crops * config.loss.mask_share) / n_crops


def _write_down(run: Run, batch: Batch, values: dict[str, float]) -> str:
    """Dump what a step saw before it failed, and return the sentence about it."""
    path = Path(run.config.out) / f"failed-step-{run.step:07d}-process-{run.place.rank}.json"
    content = {
        "step": run.step, "seed": run.config.seed, "losses": values,
        "samples": batch.numbers, "fields": batch.ids,
    }  # fmt: skip
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return (
        f"The losses or gradients of step {run.step} are not finite ({values}); the samples of the "
        f"batch and their fields ({', '.join(batch.ids[:3])}, ...) are listed in {path}."
    )
