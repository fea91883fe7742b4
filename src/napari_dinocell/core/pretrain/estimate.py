"""What a run would need, from a few measured fields and steps on this machine.

Started with torchrun, as the run would be, all processes measure together.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.model.vit import ViTConfig
from napari_dinocell.core.pretrain.batches import Batch, Batches
from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.optimizer import follow_plan
from napari_dinocell.core.pretrain.run import Run, prepare, source_settings
from napari_dinocell.core.pretrain.step import forward_backward
from napari_dinocell.core.pretrain.strategies import make_strategy
from napari_dinocell.core.pretrain.teacher import update_teacher
from napari_dinocell.core.training.distributed import barrier, own_device, world

_N_FIELDS, _N_STEPS, _N_TILES_ON_CPU = 16, 3, 2
_DOLLARS_PER_GB = 0.09  # list price of traffic out of a cloud; a sponsored public bucket bills none
_PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0}
"""Dense bfloat16, from the makers' data sheets."""


@dataclass(frozen=True)
class Estimate:
    """Measured figures, and the needs of the whole run that follow.

    Attributes
    ----------
    n_fields : int
        In the manifest, to train on.
    n_steps, n_tiles : int
        Of the run.
    n_reads : int
        Fields that are fetched, repetitions included.
    field_mb, read_mb_s : float
        Bytes of a field as stored, and the rate at which all processes read them now.
    step_s : float
        Of a whole step of all processes, without data.
    tflop : float
        Of a whole step.
    peak_gb : float or None
        Largest memory of a GPU.
    device : str
    n_devices : int
        Processes, each with a device of its own (or a part of one CPU).
    """

    n_fields: int
    n_steps: int
    n_tiles: int
    n_reads: int
    field_mb: float
    read_mb_s: float
    step_s: float
    tflop: float
    peak_gb: float | None
    device: str
    n_devices: int = 1

    @property
    def total_gb(self) -> float:
        """Read over the whole run, without a cache."""
        return self.n_reads * self.field_mb / 1e3

    @property
    def compute_h(self) -> float:
        """Hours of all steps if data never wait."""
        return self.n_steps * self.step_s / 3600

    @property
    def read_h(self) -> float:
        """Hours of all reading if the steps took no time."""
        return self.total_gb * 1e3 / self.read_mb_s / 3600

    def __str__(self) -> str:
        slower = "reading" if self.read_h > self.compute_h else "computing"
        needed = self.total_gb * 1e3 / max(self.compute_h * 3600, 1e-9)
        tera = self.tflop / self.step_s
        peak = next((v for name, v in _PEAK_TFLOPS.items() if name in self.device), None)
        share = f", {tera / peak / self.n_devices:.0%} of its peak in bfloat16" if peak else ""
        memory = "not measured" if self.peak_gb is None else f"{self.peak_gb:.1f} GB at most"
        each = " on each" if self.n_devices > 1 else ""
        device = f"{self.n_devices} x {self.device}" if each else self.device
        return "\n".join(
            [
                f"fields     {self.n_fields} of {self.field_mb:.2f} MB (measured)",
                f"run        {self.n_steps} steps, {self.n_tiles} tiles, {self.n_reads} reads "
                f"({self.n_reads / self.n_fields:.1f} per field)",
                f"data       {self.total_gb:,.0f} GB; {self.read_mb_s:,.0f} MB/s here now, "
                f"{needed:,.0f} MB/s keep the device busy",
                f"cost       ${self.total_gb * _DOLLARS_PER_GB:,.0f} where traffic is billed at "
                f"${_DOLLARS_PER_GB}/GB; $0 from a sponsored public bucket",
                f"step       {self.step_s:.3g} s on {device}; {self.tflop:.2f} TFLOP, "
                f"{tera:.2f} TFLOP/s{share}",
                f"time       {self.compute_h:.1f} h computing, {self.read_h:.1f} h reading; "
                f"{slower} decides",
                f"memory     {memory}{each}",
            ]
        )


def estimate(config: SSLConfig) -> Estimate | None:
    """Read some fields, make some steps, and extrapolate. Writes nothing but the quarantine file.

    Every process of a distributed run calls this with the same configuration; only the main one
    gets the estimate, the others None. On a CPU a step is measured with two tiles per process and
    scaled.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    # Without the disk cache: what it holds would be measured instead of the store.
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": None})})
    device = resolve_device(config.device)
    with world(device.type) as place:
        run = prepare(config, place, own_device(device, place))
        field_mb, rate = _measure_reading(run)
        batch = _first_batch(run)
        seconds = _measure_steps(run, batch) * config.batch / (len(batch.views) * place.size)
        is_cuda = run.device.type == "cuda"
        n_tiles = config.steps * config.batch
        found = Estimate(
            n_fields=len(run.training),
            n_steps=config.steps,
            n_tiles=n_tiles,
            n_reads=n_tiles // config.data.tiles_per_field,
            field_mb=field_mb,
            read_mb_s=rate,
            step_s=seconds,
            tflop=step_flop(config) / 1e12,
            peak_gb=torch.cuda.max_memory_allocated(run.device) / 1e9 if is_cuda else None,
            device=torch.cuda.get_device_name(run.device) if is_cuda else device.type,
            n_devices=place.size,
        )
        barrier()
    return found if place.is_main else None


def _first_batch(run: Run) -> Batch:
    """Tiles of the first step of this process; on a CPU only two, without micro-batches."""
    batches = Batches(run.stream, run.device, run.config)
    try:
        batch = next(batches)
    finally:
        batches.close()
    if run.device.type != "cpu":
        return batch
    run.config = run.config.model_copy(update={"micro_batch": 0})
    n = min(_N_TILES_ON_CPU, len(batch.views))
    return replace(
        batch,
        tiles=batch.tiles[:n],
        views=batch.views[:n],
        masks=batch.masks[:, :n],
        visible=None if batch.visible is None else batch.visible[:, :n],
    )


def step_flop(config: SSLConfig) -> float:
    """Floating-point operations of a step: forward and backward of the student, the teacher, heads.

    A multiplication and an addition count as two; recomputed activations are left out.
    """
    views, heads = config.views, config.heads
    shape = ENCODERS[config.model.encoder]
    n_global = make_strategy(views.strategy).n_global
    large, small = (forward_macs(shape, size) for size in (views.global_size, views.local_size))
    teacher = n_global * large * (2 if config.loss.cross else 1)
    student = 3 * (n_global * large + views.n_local * small)
    head = (
        shape.width * heads.hidden
        + heads.hidden**2
        + heads.hidden * heads.bottleneck
        + heads.bottleneck * heads.prototypes
    )
    n_patches = (views.global_size // shape.patch) ** 2
    n_masked = n_global * config.loss.mask_share * sum(config.loss.mask_ratio) / 2 * n_patches
    n_tokens = 4 * (n_masked + n_global) + 3 * views.n_local
    if config.loss.cross:
        # Of each crop as many visible patches as masked ones, of whole crops the mean number.
        n_chosen = n_global * sum(config.loss.mask_ratio) / 2 * n_patches
        n_tokens += 4 * n_chosen * (1 + config.loss.mask_share)
    anchor = 0.0
    if config.loss.gram:  # a forward pass, and products of all patches of both networks
        anchor = n_global * (large + 4 * n_patches**2 * shape.width)
    return 2.0 * config.batch * (teacher + student + anchor + head * n_tokens)


def forward_macs(shape: ViTConfig, size: int) -> float:
    """Multiplications of one forward pass of a square image of `size` px."""
    n_patches = (size // shape.patch) ** 2
    n_tokens = n_patches + 1 + shape.n_storage_tokens
    width = shape.width
    block = (4 + 2 * shape.mlp_ratio) * n_tokens * width**2 + 2 * n_tokens**2 * width
    return shape.depth * block + n_patches * 3 * shape.patch**2 * width


def _measure_reading(run: Run) -> tuple[float, float]:
    """Megabytes of a field as stored, and megabytes per second of all processes together.

    Each reads fields of its own at the same time as the others.
    """
    data, fields, place = run.config.data, run.training, run.place
    source = replace(source_settings(data), memory_bytes=0)
    reader = source.open(fields, run.config.seed)
    spread = np.linspace(0, len(fields) - 1, _N_FIELDS * place.size).astype(int)
    rows = np.unique(spread[place.rank :: place.size])
    barrier()
    begin = time.perf_counter()
    try:
        with ThreadPoolExecutor(data.field_threads) as pool:
            list(pool.map(reader.read, map(int, rows)))
        seconds = time.perf_counter() - begin
        megabytes = reader.counters["bytes"] / 1e6
    finally:
        reader.stop()
    return megabytes / len(rows), megabytes / seconds * place.size


def _measure_steps(run: Run, batch: Batch) -> float:
    """Seconds of a whole step on such a batch in each process, the first left out."""
    run.step = run.plan.n_heads  # the stage that nearly all of a run is
    model = run.model()
    times = []
    for step in range(_N_STEPS):
        begin = time.perf_counter()
        run.optimizer.zero_grad(set_to_none=True)
        losses, _ = forward_backward(
            model,
            run.teacher,
            batch,
            run.config,
            step=step,
            temperature=0.04,
            anchor=run.anchor,
            rank=run.place.rank,
            dtype=run.dtype,
        )
        follow_plan(run.optimizer, run.plan, step)
        run.optimizer.step()
        update_teacher(run.teacher, run.student.network, 0.99)
        losses.over_processes()  # waits for the device, and for the other processes
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))
