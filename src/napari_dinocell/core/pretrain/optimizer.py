"""AdamW's parameter groups: rates by depth, decay for matrices only."""

import torch
from torch import nn

from napari_dinocell.core.pretrain.network import SelfSupervisedNetwork
from napari_dinocell.core.pretrain.plan import Plan

_BEFORE_BLOCKS = ("patch_embed", "cls_token", "storage_tokens", "mask_token", "pos_embed")


def parameter_groups(
    network: SelfSupervisedNetwork, *, layer_decay: float, patch_embed_scale: float
) -> list[dict[str, object]]:
    """Group all parameters by part, rate and decay.

    Of a backbone with n blocks, block i has the scale ``layer_decay ** (n - i)``, what comes
    before the blocks ``layer_decay ** (n + 1)`` (the patch embedding times `patch_embed_scale`
    more), the final norm 1: the layer-wise decay of DINOv2 and DINOv3. Biases, norms and LayerScale
    are not decayed; tokens are.

    Returns
    -------
    list of dict
        For `torch.optim.AdamW`; ``part`` is ``backbone``, ``head`` or ``prototypes``, ``scale``
        the factor on its rate, ``is_decayed`` whether weight decay applies.
    """
    n_blocks = len(network.backbone.blocks)
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        place, _, rest = name.partition(".")
        part, scale = "head", 1.0
        if place == "backbone":
            part = "backbone"
            scale = layer_decay ** _depth_from_top(rest, n_blocks)
            if rest.startswith("patch_embed"):
                scale *= patch_embed_scale
        elif rest.startswith("prototypes"):
            part = "prototypes"
        groups.setdefault((part, scale, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "part": part, "scale": scale, "is_decayed": is_decayed}
        for (part, scale, is_decayed), parameters in groups.items()
    ]


def follow_plan(optimizer: torch.optim.Optimizer, plan: Plan, step: int) -> None:
    """Set rates and decay of a step."""
    rates = {
        "backbone": plan.backbone_rate[step],
        "head": plan.head_rate[step],
        "prototypes": plan.prototype_rate[step],
    }
    for group in optimizer.param_groups:
        group["lr"] = float(rates[group["part"]] * group["scale"])
        group["weight_decay"] = float(plan.weight_decay[step]) if group["is_decayed"] else 0.0


def _depth_from_top(name: str, n_blocks: int) -> int:
    if name.startswith("blocks."):
        return n_blocks - int(name.split(".")[1])
    return n_blocks + 1 if name.startswith(_BEFORE_BLOCKS) else 0
