"""Key layouts of published DINOv3 and DINOv2 checkpoints, mapped to this project's names.

This project's names are those of the official DINOv3 files. Each layout here is recognized by a key
that only it has, and mapped by name; values change only where q, k and v are joined.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from napari_dinocell.core.model.store import State

Layout = Literal["official", "transformers"]


_WRAPPERS = ("module.", "backbone.", "teacher.backbone.", "student.backbone.")
_TOP = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "storage_tokens",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
_IN_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.o_proj": "attn.proj",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_QKV = {
    "attention.q_proj": 0,
    "attention.k_proj": 1,
    "attention.v_proj": 2,
    "attention.attention.query": 0,
    "attention.attention.key": 1,
    "attention.attention.value": 2,
}
_BLOCK = re.compile(r"(?:model\.|encoder\.)?layer\.(\d+)\.(.+?)(\.weight|\.bias)?")


def unwrap(state: Mapping[str, Tensor]) -> State:
    """State without the prefixes that training code puts around a backbone.

    Where several parts are wrapped side by side (backbone and head), only the backbone is kept.
    """
    state = dict(state)
    for prefix in _WRAPPERS:
        inner = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        if inner:
            return unwrap(inner)
    return state


def layout_of(state: Mapping[str, Tensor]) -> Layout | None:
    """Which naming a state has, or None when it is no vision transformer that we know."""
    if "embeddings.cls_token" in state:
        return "transformers"
    if "cls_token" in state and "patch_embed.proj.weight" in state:
        return "official"
    return None


def to_project_names(state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """Rename a state of a known layout.

    Returns
    -------
    state : dict
        Under this project's names; keys that no rule knows keep theirs.
    joined : list of str
        Names of tensors that were joined out of q, k and v.
    """
    if layout_of(state) == "transformers":
        return _from_transformers(state)
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key)  # chunked for FSDP
        key = {"register_tokens": "storage_tokens", "pos_embed": "pos_embed.weight"}.get(key, key)
        renamed[key] = value
    return renamed, []


def _from_transformers(state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    renamed: State = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for key, value in state.items():
        match = _BLOCK.fullmatch(key)
        if match is None:
            name = _TOP.get(key, key)
            renamed["pos_embed.weight" if name == "pos_embed" else name] = value
            continue
        index, inner, ending = match.group(1), match.group(2), match.group(3) or ""
        if inner in _QKV:
            parts.setdefault(f"blocks.{index}.attn.qkv{ending}", {})[_QKV[inner]] = value
        elif inner in _IN_BLOCK:
            renamed[f"blocks.{index}.{_IN_BLOCK[inner]}{ending}"] = value
        else:
            renamed[key] = value
    joined = []
    for name, three in parts.items():
        if name.endswith(".bias") and 1 not in three and len(three) == 2:
            three[1] = torch.zeros_like(three[0])  # DINOv3 has no key bias
        if len(three) == 3:
            renamed[name] = torch.cat([three[0], three[1], three[2]])
            joined.append(name)
    if renamed.get("storage_tokens", torch.ones(1, 1)).shape[1] == 0:
        del renamed["storage_tokens"]
    if "mask_token" in renamed:  # (1, 1, D) for DINOv3, (1, D) for DINOv2
        renamed["mask_token"] = renamed["mask_token"].reshape(1, -1)
    return renamed, joined
