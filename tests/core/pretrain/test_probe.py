"""The probe on real files: discs that features can tell from their ground."""

import json

import numpy as np
import pytest
import torch
from scipy import ndimage
from tifffile import imwrite

from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.config import ProbeSettings
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.probe import main, probe


@pytest.fixture
def discs(tmp_path):
    """Folder of images with discs of 30 px, the median diameter of the probe."""
    for folder in ("images", "labels"):
        (tmp_path / "discs" / folder).mkdir(parents=True)
    for index in range(6):
        rng = np.random.default_rng(index)
        labels = np.zeros((128, 128), np.uint16)
        y, x = np.indices(labels.shape)
        for cell_id, (cy, cx) in enumerate(rng.uniform(20, 108, (6, 2)), 1):
            near = (y - cy) ** 2 + (x - cx) ** 2
            if not labels[near < 18**2].any():
                labels[near < 15**2] = cell_id
        plane = 0.2 + 0.6 * ndimage.gaussian_filter((labels > 0).astype(float), 1)
        plane += 0.02 * rng.normal(size=plane.shape)
        imwrite(tmp_path / "discs" / "images" / f"{index}.tif", (plane * 20_000).astype(np.uint16))
        imwrite(tmp_path / "discs" / "labels" / f"{index}.tif", labels)
    return tmp_path / "discs"


@pytest.fixture
def backbone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VisionTransformer(ENCODERS["tiny"]).eval()


def test_training_the_decoder_finds_discs_and_leaves_backbone_and_random_state_alone(
    discs, backbone
):
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    state = torch.get_rng_state()
    scores = [
        probe(
            backbone, ProbeSettings(source=str(discs), steps=steps, batch=4, images=2),
            torch.device("cpu"), crop=64,
        ).op_csb
        for steps in (1, 60)
    ]  # fmt: skip
    assert scores[1] > scores[0] + 0.1
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_the_command_prints_scores_per_set(discs, backbone, tmp_path, capsys):
    save_backbone(tmp_path / "b.safetensors", backbone)
    words = ["--steps", "2", "--batch", "2", "--images", "1", "--device", "cpu"]
    assert main([str(tmp_path / "b.safetensors"), str(discs), *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["sets"]) == {"discs"}
    assert 0 <= result["OP_CSB"] <= 1
