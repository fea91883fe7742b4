"""What a training run begins with."""

import pytest
import torch

from napari_dinocell.core.training.config import ModelSettings
from napari_dinocell.core.training.setup import build


@pytest.mark.parametrize("encoder", ["small", "vits8-learned"])
def test_a_new_network_begins_with_background(encoder):
    torch.manual_seed(0)
    settings = ModelSettings(encoder=encoder, decoder_widths=(16, 16, 8, 8))
    with torch.no_grad():
        map_ = build(settings).eval()(torch.rand(1, 3, 64, 64))
    # An untrained decoder is near a constant, and background is most of a target.
    assert 0 < map_.mean() < 0.15
