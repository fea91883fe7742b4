"""Several processes that act as one: start-up, slices of the global batch, batch statistics.

A run of N processes on a global batch equals a run of one process on it. Batch norm is therefore
synchronized on every backend; torch's own `SyncBatchNorm` refuses the CPU.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """Place of this process: `rank` of `size`, on `local_rank` of its machine."""

    rank: int
    size: int
    local_rank: int

    @property
    def is_main(self) -> bool:
        """True in the process that writes files."""
        return self.rank == 0

    def slice(self, n: int) -> range:
        """Return this process's part of ``range(n)``.

        Raises
        ------
        ValueError
            If `n` cannot be shared equally.
        """
        if n % self.size:
            raise ValueError(
                f"A batch of {n} cannot be shared by {self.size} processes; choose a multiple of {self.size}."
            )
        share = n // self.size
        return range(self.rank * share, (self.rank + 1) * share)


@contextmanager
def world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started; a single process needs no launcher.

    Parameters
    ----------
    device : str
        ``cuda`` selects NCCL, anything else gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    place = World(int(os.environ.get("RANK", "0")), size, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield place
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield place
    finally:
        dist.destroy_process_group()


def own_device(device: torch.device, place: World) -> torch.device:
    """Device of this process: the GPU of its place on the machine, where several share one."""
    if device.type != "cuda" or place.size == 1:
        return device
    own = torch.device("cuda", place.local_rank)
    torch.cuda.set_device(own)
    return own


def any_process(is_true: bool, device: torch.device) -> bool:
    """Whether it is true in any process; all must ask at the same point."""
    if not dist.is_initialized():
        return is_true
    flag = torch.tensor(float(is_true), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def average(value: float, device: torch.device) -> float:
    """Return the mean of `value` over all processes."""
    if not dist.is_initialized():
        return value
    total = torch.tensor(
        value, dtype=torch.float64 if device.type != "mps" else None, device=device
    )
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of the gradients."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(values: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(values)  # type: ignore[no-untyped-call]
    return total


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the global batch, on any backend.

    Each process must hold equally many pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (B, C, Y, X) over B, Y, X of all processes while training."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        size = dist.get_world_size()
        x32 = x.float()
        mean = _sum_over_processes(x32.mean((0, 2, 3))) / size
        centered = x32 - mean[:, None, None]
        variance = _sum_over_processes(centered.square().mean((0, 2, 3))) / size
        self._track(mean.detach(), variance.detach(), x.numel() // x.shape[1] * size)
        y = centered * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = (
            self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        )
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)


def synchronize_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every `BatchNorm2d` inside `module` by its synchronized form, weights kept."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            twin = SynchronizedBatchNorm2d(
                child.num_features,
                child.eps,
                child.momentum,
                child.affine,
                child.track_running_stats,
            )
            twin.load_state_dict(child.state_dict())
            setattr(module, name, twin.to(next(child.parameters(), torch.empty(0)).device))
        else:
            synchronize_batch_norm(child)
    return module
