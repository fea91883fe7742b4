"""A network small enough for exact tests: 32 px, 4 x 4 patches, width 48, 64 prototypes."""

import torch
from torch import Tensor, nn

from napari_dinocell.core.model.vit import Tokens, VisionTransformer, ViTConfig
from napari_dinocell.core.pretrain.heads import ProjectionHead

N_PROTOTYPES = 64
SIZE = 32


class TinyNetwork(nn.Module):
    """Backbone and both heads, as student and teacher hold them."""

    def __init__(self, *, n_prototypes: int = N_PROTOTYPES, weight_norm: bool = False) -> None:
        super().__init__()
        config = ViTConfig(width=48, depth=2, heads=3, layer_scale=1.0)
        self.backbone = VisionTransformer(config)
        shape = {"hidden": 96, "bottleneck": 256, "weight_norm": weight_norm}
        self.dino_head = ProjectionHead(48, n_prototypes, **shape)
        self.ibot_head = ProjectionHead(48, n_prototypes, **shape)

    def forward(self, crops: Tensor, mask: Tensor | None = None) -> Tokens:
        """Tokens of gray crops (B, 1, Y, X)."""
        return self.backbone(crops.expand(-1, 3, -1, -1) * 4 - 2, mask)


def tiny_network(seed: int = 0, **options: object) -> TinyNetwork:
    """Network with fixed random weights; the caller's random state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyNetwork(**options)
