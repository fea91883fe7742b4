import runpy
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from napari_dinocell.core.model.files import load_backbone
from napari_dinocell.core.model.store import read_header
from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig
from napari_dinocell.core.model.weights import load_weights

from .tiny import image, vit

SCRIPT = Path(__file__).parents[3] / "scripts" / "convert_backbone.py"
DINOV2 = ViTConfig(
    width=128,
    depth=2,
    heads=2,
    patch=14,
    n_storage_tokens=0,
    position="learned",
    position_grid=6,
    mask_key_bias=False,
    norm_eps=1e-6,
)


def convert(source, out, *options):
    app = typer.Typer()
    app.command()(runpy.run_path(str(SCRIPT))["main"])
    return CliRunner().invoke(app, [str(source), str(out), *options])


@pytest.fixture
def source(tmp_path):
    state = vit(DINOV2).float().state_dict()
    state["pos_embed"] = state.pop("pos_embed.weight")
    save_file(state, tmp_path / "dinov2.safetensors")
    return tmp_path / "dinov2.safetensors"


def test_converted_backbone_is_the_loaded_checkpoint_in_half_precision(source, tmp_path):
    result = convert(source, tmp_path / "out.safetensors", "--about", "license=Apache-2.0")
    assert "patch 14 folded to 8" in result.output
    encoder, reference = load_backbone(tmp_path / "out.safetensors")
    assert reference.sha256 in result.output
    assert read_header(tmp_path / "out.safetensors")["license"] == "Apache-2.0"
    direct = VisionTransformer(DINOV2.model_copy(update={"patch": 8})).eval()
    load_weights(direct, source)
    assert encoder.config == direct.config
    x = image(1, 3, 16, 24)
    with torch.inference_mode():
        error = (encoder(x).patches - direct(x).patches).abs().max()
    assert 0 < error < 0.02


def test_dinov2_checkpoint_can_take_the_dinov3_form(source, tmp_path):
    convert(source, tmp_path / "out.safetensors", "--position", "rope")
    encoder, _ = load_backbone(tmp_path / "out.safetensors")
    assert encoder.config == ViTConfig(width=128, depth=2, heads=2, norm_eps=1e-6)
    assert encoder.storage_tokens.shape == (1, 4, 128)
