"""Networks in parts: each process keeps a slice of every tensor instead of a copy (FSDP2).

Weights, gradients, moments and teacher of a large backbone then take 1 / N of the memory in each of
N processes; a layer is gathered for the time that it computes. The arithmetic is that of copies
(Zhao et al. 2023, arXiv:2304.11277), and so are the checkpoints: they hold whole tensors, so that a
run goes on with another number of processes, in parts or not.
"""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from napari_dinocell.core.model.transformer import Block
from napari_dinocell.core.pretrain.network import SelfSupervisedNetwork

_LARGE = 200_000_000  # parameters; ViT-L has 303 million, ViT-B 86 million


def is_sharded(setting: Literal["auto", "always", "never"], network: nn.Module, size: int) -> bool:
    """Whether `size` processes share the tensors of a network."""
    is_large = sum(p.numel() for p in network.parameters()) >= _LARGE
    return size > 1 and (setting == "always" or (setting == "auto" and is_large))


def shard(network: SelfSupervisedNetwork, device: torch.device, size: int) -> None:
    """Leave this process its slices of a network that is equal in all processes.

    Parameters change into distributed ones: make the optimizer afterwards. The two branches of a
    block are gathered one by one, so that it does not matter how blocks are run.

    Raises
    ------
    RuntimeError
        If this torch is too old.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
        from torch.distributed.fsdp import fully_shard  # noqa: PLC0415
    except ImportError as error:
        raise RuntimeError(
            f"torch {torch.__version__} cannot share a network among processes; install torch 2.6 "
            "or newer, or set shard=never."
        ) from error
    # It warns at each step that tokens are views of one tensor. Nothing changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (size,))
    backbone = network.backbone
    for block in backbone.blocks:
        assert isinstance(block, Block)
        for branch in ([block.norm1, block.attn, block.ls1], [block.norm2, block.mlp, block.ls2]):
            fully_shard(branch, mesh=mesh)
    for part in (backbone, network.dino_head, network.ibot_head):
        # By default the outermost stays whole until the backward pass, and the teacher has none.
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def whole(tensor: Tensor) -> Tensor:
    """A tensor gathered from all processes, each of which must call this; a plain one as it is."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def whole_state(state: Any) -> Any:
    """A state (nested dictionaries and lists) with whole tensors; every process must call this.

    What was in parts comes to the memory of the main process's CPU. The others get None for it:
    they have no use for it, and all together might not have the memory.
    """
    if isinstance(state, Tensor):
        gathered = whole(state)
        if gathered is state:
            return state
        return gathered.cpu() if dist.get_rank() == 0 else None
    if isinstance(state, Mapping):
        return {key: whole_state(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_state(value) for value in state]
    return state


def load_network(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill a network, in parts or not, with whole tensors."""
    own = network.state_dict()
    network.load_state_dict({k: _slice(v, own[k]) if k in own else v for k, v in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Fill an optimizer with whole moments."""
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    moments = {
        key: {
            name: _slice(v, parameters[key]) if v.shape == parameters[key].shape else v
            for name, v in values.items()
        }
        for key, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def _slice(value: Tensor, own: Tensor) -> Tensor:
    """The slice of a whole tensor that this process keeps of `own`."""
    placements = getattr(own, "placements", None)
    if placements is None:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor  # noqa: PLC0415

    assert isinstance(own, DTensor)
    # Every process has read the same file: nothing to send around.
    on_device = value.to(own.device)
    return distribute_tensor(on_device, own.device_mesh, placements, src_data_rank=None)
