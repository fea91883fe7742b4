"""What student and teacher are made of: a backbone and two projection heads."""

from torch import Tensor, nn

from napari_dinocell.core.model.network import IMAGENET_MEAN, IMAGENET_STD
from napari_dinocell.core.model.vit import (
    BlockRunner,
    CoordinateDraw,
    Tokens,
    VisionTransformer,
    ViTConfig,
)
from napari_dinocell.core.pretrain.config import HeadSettings
from napari_dinocell.core.pretrain.heads import ProjectionHead
from napari_dinocell.core.training.setup import ENCODERS as SUPERVISED

ENCODERS = {
    **SUPERVISED,
    "tiny": ViTConfig(width=96, depth=4, heads=3, levels=(0, 1, 2, 3), layer_scale=1.0),
}
"""`tiny` is for runs that only prove that everything works."""


class SelfSupervisedNetwork(nn.Module):
    """Backbone with a head for the CLS token (DINO) and one for patches (iBOT)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: VisionTransformer, heads: HeadSettings) -> None:
        super().__init__()
        self.backbone = backbone
        self.dino_head, self.ibot_head = (
            ProjectionHead(
                backbone.config.width,
                heads.prototypes,
                hidden=heads.hidden,
                bottleneck=heads.bottleneck,
                weight_norm=heads.weight_norm,
            )
            for _ in range(2)
        )
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            constant = self.backbone.cls_token.new_tensor(values).view(1, 3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    def tokens(
        self,
        crops: Tensor,
        mask: Tensor | None = None,
        coordinates: CoordinateDraw | None = None,
        run: BlockRunner | None = None,
    ) -> Tokens:
        """Tokens of crops (B, 1 or 3, Y, X) with normalized intensities; gray is repeated."""
        standardized = (crops.float() - self.mean) / self.std
        return self.backbone(standardized, mask, coordinates, run)  # type: ignore[no-any-return]
