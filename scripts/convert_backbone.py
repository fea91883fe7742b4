"""Convert a published DINOv3 or DINOv2 checkpoint into a backbone file of this project.

python scripts/convert_backbone.py SRC OUT [--position learned|rope] [--about KEY=TEXT]...
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import torch
import typer

from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.model.layouts import to_project_names, unwrap
from napari_dinocell.core.model.store import read_tensors
from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig
from napari_dinocell.core.model.weights import load_weights


def main(
    source: Annotated[Path, typer.Argument(help=".safetensors or .pth of a known layout")],
    out: Annotated[Path, typer.Argument(help="backbone file to write, .safetensors")],
    position: Annotated[str, typer.Option(help="auto, learned or rope")] = "auto",
    about: Annotated[list[str] | None, typer.Option(help="KEY=TEXT for the header")] = None,
) -> None:
    """Write OUT: patch 8, float16, shape read off the checkpoint."""
    torch.manual_seed(0)  # storage tokens that the source lacks
    state = read_tensors(source)
    config = config_of(state, position)
    encoder = VisionTransformer(config)
    report = load_weights(encoder, state, optional=("mask_token", "storage_tokens"))
    print(report)
    reference = save_backbone(out, encoder, dict(pair.split("=", 1) for pair in about or ()))
    print(f"{out} sha256 of tensors {reference.sha256}")


def config_of(state: dict[str, torch.Tensor], position: str = "auto") -> ViTConfig:
    """Shape of the network that a checkpoint of a known layout needs, at patch 8."""
    names, _ = to_project_names(unwrap(state))
    width = names["cls_token"].shape[-1]
    is_dinov2 = "pos_embed.weight" in names
    if position == "auto":
        position = "learned" if is_dinov2 else "rope"
    learned = position == "learned"
    storage = names["storage_tokens"].shape[1] if "storage_tokens" in names else 0
    return ViTConfig(
        width=width,
        depth=1 + max(int(name.split(".")[1]) for name in names if name.startswith("blocks.")),
        heads=width // 64,
        mlp_ratio=names["blocks.0.mlp.fc1.weight"].shape[0] / width,
        n_storage_tokens=storage if learned else storage or 4,
        position=cast(Literal["rope", "learned"], position),
        position_grid=round((names["pos_embed.weight"].shape[1] - 1) ** 0.5) if learned else 37,
        position_antialias=learned and storage > 0,
        mask_key_bias=not learned,
        norm_eps=1e-6 if is_dinov2 else 1e-5,
    )


if __name__ == "__main__":
    typer.run(main)
