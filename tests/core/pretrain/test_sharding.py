"""Which networks are shared among processes; that it changes nothing is tested with whole runs."""

import pytest
import torch

from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.config import HeadSettings
from napari_dinocell.core.pretrain.network import ENCODERS, SelfSupervisedNetwork
from napari_dinocell.core.pretrain.sharding import is_sharded


@pytest.mark.parametrize(
    ("encoder", "setting", "size", "expected"),
    [
        ("vitl8", "auto", 2, True),
        ("vitb8", "auto", 2, False),
        ("vitl8", "never", 2, False),
        ("tiny", "always", 2, True),
        ("vitl8", "always", 1, False),
    ],
)
def test_large_networks_are_shared_by_default_and_others_on_request(
    encoder, setting, size, expected
):
    with torch.device("meta"):
        network = SelfSupervisedNetwork(VisionTransformer(ENCODERS[encoder]), HeadSettings())
    assert is_sharded(setting, network, size) is expected
