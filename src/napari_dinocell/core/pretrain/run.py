"""From a configuration to all that the loop works on: networks, optimizer, plan, data."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from napari_dinocell.core.model.store import SkipInitialization
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.batches import Stream, ViewDrawing
from napari_dinocell.core.pretrain.changes import changed_settings
from napari_dinocell.core.pretrain.config import DataSettings, SSLConfig
from napari_dinocell.core.pretrain.network import SelfSupervisedNetwork
from napari_dinocell.core.pretrain.optimizer import parameter_groups
from napari_dinocell.core.pretrain.plan import Plan, make_plan
from napari_dinocell.core.pretrain.regularize import BlockRunning
from napari_dinocell.core.pretrain.sharding import (
    is_sharded,
    load_network,
    load_optimizer,
    shard,
    whole_state,
)
from napari_dinocell.core.pretrain.sources import open_fields
from napari_dinocell.core.pretrain.start import Gate, make_network
from napari_dinocell.core.pretrain.step import Student
from napari_dinocell.core.pretrain.teacher import make_teacher
from napari_dinocell.core.stream import processes
from napari_dinocell.core.stream.decode import PlaneChecks
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.order import Order, rank_slots
from napari_dinocell.core.stream.samples import TileSettings
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.stores import S3Settings
from napari_dinocell.core.stream.stream import Threads, merge_states
from napari_dinocell.core.training.config import dump_config
from napari_dinocell.core.training.distributed import World
from napari_dinocell.core.training.setup import training_dtype

_log = logging.getLogger(__name__)


@dataclass
class Run:
    """What the loop works on, in one process.

    Attributes
    ----------
    student, teacher
        On the device. `model` is the student, or the same with gradients averaged over processes.
    anchor : SelfSupervisedNetwork or None
        The student as the run started, for `loss.gram`; no part of a checkpoint, because it is made
        from the starting weights again.
    is_sharded : bool
        This process has slices of their tensors only.
    plan : Plan
    stream : FieldStream or ProcessStream
        Loaded with a checkpoint before `batches` begin.
    training : Manifest
    held_out : Manifest
        Fields for pictures and health; the training fields if none are held out.
    gate : Gate
    step : int
        Steps done.
    """

    config: SSLConfig
    place: World
    device: torch.device
    dtype: torch.dtype
    student: Student
    teacher: SelfSupervisedNetwork
    anchor: SelfSupervisedNetwork | None
    optimizer: torch.optim.Optimizer
    plan: Plan
    stream: Stream
    training: Manifest
    held_out: Manifest
    gate: Gate
    is_sharded: bool = False
    step: int = 0

    def state(self, data: dict[str, Any]) -> dict[str, Any]:
        """Everything that the next step depends on; every process must call it.

        Parameters
        ----------
        data : dict
            State of this process's batches.
        """
        states = [data]
        if dist.is_initialized():
            states = [{} for _ in range(self.place.size)]
            dist.all_gather_object(states, data)
        return {
            "student": whole_state(self.student.network.state_dict()),
            "teacher": whole_state(self.teacher.state_dict()),
            "optimizer": whole_state(self.optimizer.state_dict()),
            "data": merge_states(states),
            "recent": [list(pair) for pair in self.gate.recent],
            "config": dump_config(self.config),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If networks or data are others than those of the checkpoint.
        """
        try:
            load_network(self.student.network, state["student"])
            load_network(self.teacher, state["teacher"])
            load_optimizer(self.optimizer, state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                "The checkpoint is of another network; keep model and heads as they were, or start "
                "in another folder."
            ) from error
        self.stream.load_state_dict(state["data"])
        self.gate = Gate(self.config, state["recent"])
        self.step = int(state["step"])
        _log.info("Going on from step %d.", self.step)
        if changed := changed_settings(state["config"], self.config):
            _log.warning("From here on other settings hold than before: %s.", ", ".join(changed))

    def model(self) -> nn.Module:
        """The student for the present stage; make it anew when the stage changes."""
        self.student.freeze(self.step < self.plan.n_heads)
        if self.place.size == 1 or self.is_sharded:
            return self.student
        # Buffers are constants: nothing to send around at each step.
        return DistributedDataParallel(self.student, broadcast_buffers=False)

    def whole_backbone(self) -> VisionTransformer | None:
        """Copy of the teacher's backbone as it is now, in the main process; all must call it."""
        state = whole_state(self.teacher.backbone.state_dict())
        if not self.place.is_main:
            return None
        with SkipInitialization():
            backbone = VisionTransformer(self.teacher.backbone.config).to(self.device)
        backbone.load_state_dict(state)
        return backbone.requires_grad_(False).eval()


def prepare(config: SSLConfig, place: World, device: torch.device) -> Run:
    """Read fields and weights; the same in every process but for its share of the batch."""
    training, held_out = open_fields(config.data)
    network = make_network(config).to(device)
    teacher = make_teacher(network)
    anchor = make_teacher(network) if config.loss.gram else None
    in_parts = is_sharded(config.shard, network, place.size)
    if in_parts:
        for each in (network, teacher, anchor):
            if each is not None:
                shard(each, device, place.size)
        _log.info("Each of %d processes keeps slices of the network.", place.size)
    settings = config.model
    running = BlockRunning(settings.drop_path, recompute=config.recompute, compiled=config.compile)
    groups = parameter_groups(
        network,
        layer_decay=config.optimizer.layer_decay,
        patch_embed_scale=config.optimizer.patch_embed_scale,
    )
    optimizer = torch.optim.AdamW(
        groups,
        betas=config.optimizer.betas,
        eps=config.optimizer.eps,
        fused=True if device.type == "cuda" else None,
    )
    _log.info(
        "%d fields to train on, %d held out; %d steps of %d tiles.",
        len(training), len(held_out or ()), config.steps, config.batch,
    )  # fmt: skip
    return Run(
        config=config,
        place=place,
        device=device,
        dtype=training_dtype(config.precision, device),
        student=Student(network, running, settings.rescale, config.seed),
        teacher=teacher,
        anchor=anchor,
        optimizer=optimizer,
        plan=make_plan(config),
        stream=open_stream(config, training, place),
        training=training,
        held_out=held_out or training,
        gate=Gate(config),
        is_sharded=in_parts,
    )


def open_stream(config: SSLConfig, fields: Manifest, place: World) -> Stream:
    """Samples of this process, with their views drawn."""
    data = config.data
    order = Order(
        fields.shard_sizes(),
        seed=config.seed,
        batch=config.batch,
        tiles_per_field=data.tiles_per_field,
        spread=data.spread,
        window=data.window,
    )
    return processes.open_stream(
        order,
        fields,
        source_settings(data, Path(config.out) / "quarantine.jsonl"),
        n_processes=data.processes,
        slots=rank_slots(config.batch, place.rank, place.size),
        tiles=TileSettings(data.tile, data.pixel_size_um),
        threads=Threads(data.field_threads, data.tile_threads, round(data.look_ahead_mb * 2**20)),
        transform=ViewDrawing(config),
    )


def source_settings(data: DataSettings, quarantine: Path | None = None) -> SourceSettings:
    """How fields are read."""
    return SourceSettings(
        s3=S3Settings(
            endpoint_url=data.endpoint,
            region=data.region,
            is_signed=data.signed,
            is_etag_md5=data.etag_md5,
        ),
        n_threads=data.fetch_threads,
        cache_folder=data.cache,
        cache_bytes=round(data.cache_gb * 1e9),
        memory_bytes=round(data.memory_gb * 1e9),
        quarantine=quarantine,
        most_broken=data.most_broken,
        checks=PlaneChecks(most_zeros=data.most_zeros),
    )
