"""Tiles per second of reading alone, of the step alone, and of both together.

    python benchmarks/pretrain_throughput.py ssl_1gpu data.sources=[manifest.parquet]
    python benchmarks/pretrain_throughput.py ssl_smoke data.sources=[FOLDER] --steps 20

The step should decide: together it must reach what the step does alone, and wait for data less than
5 % of the time. `data.endpoint` names an S3 server other than Amazon's, such as one on this machine.
Nothing is written but the quarantine file of the run's folder.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.pretrain.batches import Batch, Batches
from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.estimate import step_flop
from napari_dinocell.core.pretrain.optimizer import follow_plan
from napari_dinocell.core.pretrain.run import Run, prepare
from napari_dinocell.core.pretrain.step import forward_backward
from napari_dinocell.core.pretrain.teacher import update_teacher
from napari_dinocell.core.training.config import load_config, shipped_configs
from napari_dinocell.core.training.distributed import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=5)
    options = parser.parse_args()
    path = shipped_configs(self_supervised=True).get(options.config, Path(options.config))
    config = load_config(SSLConfig, path, options.overrides)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    print(json.dumps({"reading": measure(config, device, options, is_stepping=False)}))
    print(json.dumps({"step": measure(config, device, options, is_reading=False)}))
    print(json.dumps({"together": measure(config, device, options)}))


def measure(
    config: SSLConfig,
    device: torch.device,
    options: argparse.Namespace,
    *,
    is_reading: bool = True,
    is_stepping: bool = True,
) -> dict[str, float]:
    """Rates of `options.steps` steps after `options.warmup` that do not count."""
    run = prepare(config, World(0, 1, 0), device)
    model = run.model()
    run.student.freeze(False)
    batches = Batches(run.stream, device, config)
    fixed = next(batches)
    try:
        for step in range(options.warmup + options.steps):
            if step == options.warmup:
                begin, waited = time.perf_counter(), batches.seconds_waited
                read = run.stream.counters["bytes"]
            batch = next(batches) if is_reading else fixed
            if is_stepping:
                one_step(run, model, batch, step)
        seconds = time.perf_counter() - begin
        megabytes = (run.stream.counters["bytes"] - read) / 1e6
    finally:
        batches.close()
    result = {
        "tiles_per_s": options.steps * config.batch / seconds,
        "crops_per_s": options.steps * config.batch * n_crops(fixed) / seconds,
        "s_per_step": seconds / options.steps,
    }
    if is_reading:
        result["mb_per_s"] = megabytes / seconds
        result["wait_share"] = (batches.seconds_waited - waited) / seconds
    if is_stepping:
        result["tflop_per_s"] = step_flop(config) * options.steps / seconds / 1e12
    return {name: round(value, 4) for name, value in result.items()}


def one_step(run: Run, model: torch.nn.Module, batch: Batch, step: int) -> None:
    run.optimizer.zero_grad(set_to_none=True)
    losses, _ = forward_backward(
        model, run.teacher, batch, run.config,
        step=step, temperature=0.04, anchor=run.anchor, dtype=run.dtype,
    )  # fmt: skip
    follow_plan(run.optimizer, run.plan, min(step, len(run.plan) - 1))
    run.optimizer.step()
    update_teacher(run.teacher, run.student.network, 0.996)
    losses.over_processes()  # waits for the device, as the loop does


def n_crops(batch: Batch) -> int:
    views = batch.views[0]
    return len(views.globals) + len(views.locals) + len(views.answers)


if __name__ == "__main__":
    main()
