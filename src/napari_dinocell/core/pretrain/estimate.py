"""What a run would need, from a few measured fields and steps on this machine."""

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
from napari_dinocell.core.pretrain.sources import open_fields
from napari_dinocell.core.pretrain.step import forward_backward
from napari_dinocell.core.pretrain.strategies import make_strategy
from napari_dinocell.core.pretrain.teacher import update_teacher
from napari_dinocell.core.training.distributed import World

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
        Bytes of a field as stored, and the rate at which this machine reads them now.
    step_s : float
        Of a whole step on this device, without data.
    tflop : float
        Of a whole step.
    peak_gb : float or None
        Largest GPU memory.
    device : str
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
        share = f", {tera / peak:.0%} of its peak in bfloat16" if peak else ""
        memory = "not measured" if self.peak_gb is None else f"{self.peak_gb:.1f} GB at most"
        return "\n".join(
            [
                f"fields     {self.n_fields} of {self.field_mb:.2f} MB (measured)",
                f"run        {self.n_steps} steps, {self.n_tiles} tiles, {self.n_reads} reads "
                f"({self.n_reads / self.n_fields:.1f} per field)",
                f"data       {self.total_gb:,.0f} GB; {self.read_mb_s:,.0f} MB/s here now, "
                f"{needed:,.0f} MB/s keep the device busy",
                f"cost       ${self.total_gb * _DOLLARS_PER_GB:,.0f} where traffic is billed at "
                f"${_DOLLARS_PER_GB}/GB; $0 from a sponsored public bucket",
                f"step       {self.step_s:.3g} s on {self.device}; {self.tflop:.2f} TFLOP, "
                f"{tera:.2f} TFLOP/s{share}",
                f"time       {self.compute_h:.1f} h computing, {self.read_h:.1f} h reading; "
                f"{slower} decides",
                f"memory     {memory}",
            ]
        )


def estimate(config: SSLConfig) -> Estimate:
    """Read some fields, make some steps, and extrapolate. Writes nothing but the quarantine file.

    On a CPU a step is measured with two tiles and scaled.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    field_mb, rate = _measure_reading(config)
    run = prepare(config, World(0, 1, 0), device)
    batches = Batches(run.stream, device, config)
    try:
        batch = next(batches)
    finally:
        batches.close()
    if device.type == "cpu":
        n = min(_N_TILES_ON_CPU, config.batch)
        batch = replace(
            batch,
            tiles=batch.tiles[:n],
            views=batch.views[:n],
            masks=batch.masks[:, :n],
            visible=None if batch.visible is None else batch.visible[:, :n],
        )
        run.config = config.model_copy(update={"micro_batch": 0})
    seconds = _measure_steps(run, batch) * config.batch / len(batch.views)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    n_tiles = config.steps * config.batch
    return Estimate(
        n_fields=len(open_fields(config.data)[0]),
        n_steps=config.steps,
        n_tiles=n_tiles,
        n_reads=n_tiles // config.data.tiles_per_field,
        field_mb=field_mb,
        read_mb_s=rate,
        step_s=seconds,
        tflop=step_flop(config) / 1e12,
        peak_gb=peak,
        device=name,
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
    return 2.0 * config.batch * (teacher + student + head * n_tokens)


def forward_macs(shape: ViTConfig, size: int) -> float:
    """Multiplications of one forward pass of a square image of `size` px."""
    n_patches = (size // shape.patch) ** 2
    n_tokens = n_patches + 1 + shape.n_storage_tokens
    width = shape.width
    block = (4 + 2 * shape.mlp_ratio) * n_tokens * width**2 + 2 * n_tokens**2 * width
    return shape.depth * block + n_patches * 3 * shape.patch**2 * width


def _measure_reading(config: SSLConfig) -> tuple[float, float]:
    """Megabytes of a field as stored, and megabytes per second with all threads."""
    fields = open_fields(config.data)[0]
    source = replace(source_settings(config.data), cache_folder=None, memory_bytes=0)
    reader = source.open(fields, config.seed)
    rows = np.unique(np.linspace(0, len(fields) - 1, min(_N_FIELDS, len(fields))).astype(int))
    begin = time.perf_counter()
    try:
        with ThreadPoolExecutor(config.data.field_threads) as pool:
            list(pool.map(reader.read, map(int, rows)))
        seconds = time.perf_counter() - begin
        megabytes = reader.counters["bytes"] / 1e6
    finally:
        reader.stop()
    return megabytes / len(rows), megabytes / seconds


def _measure_steps(run: Run, batch: Batch) -> float:
    """Seconds of a whole step, the first left out."""
    model = run.model()
    run.student.freeze(False)  # stage B is nearly all of a run
    times = []
    for step in range(_N_STEPS):
        begin = time.perf_counter()
        run.optimizer.zero_grad(set_to_none=True)
        losses, _ = forward_backward(
            model, run.teacher, batch, run.config, step=step, temperature=0.04, dtype=run.dtype
        )
        follow_plan(run.optimizer, run.plan, step)
        run.optimizer.step()
        update_teacher(run.teacher, run.student.network, 0.99)
        losses.over_processes()  # waits for the device
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))
