"""Backbones to look at: which files tell their architecture."""

import torch

from napari_dinocell.core.model.store import write_safetensors
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.open import open_backbone


def test_a_foreign_file_that_tells_its_architecture_in_words_is_opened_by_the_name(tmp_path):
    backbone = VisionTransformer(ENCODERS["tiny"]).eval()
    words = {"architecture": "tiny ViT: depth 4, width 96"}
    write_safetensors(tmp_path / "foreign.safetensors", backbone.state_dict(), words)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        opened = open_backbone(tmp_path / "foreign.safetensors", "tiny")(image).cls
        torch.testing.assert_close(opened, backbone(image).cls)
