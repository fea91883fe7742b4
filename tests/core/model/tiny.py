"""Networks small enough for exact tests in float64, with weights that matter everywhere."""

import torch
from torch import Tensor, nn

from napari_dinocell.core.model.decoder import UNetDecoderConfig
from napari_dinocell.core.model.files import ModelCard
from napari_dinocell.core.model.network import DINOCell, build_network
from napari_dinocell.core.model.small import SmallDecoderConfig, SmallEncoderConfig
from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig

WIDTH = 24
ROPE = ViTConfig(width=WIDTH, depth=4, heads=2, levels=(0, 1, 2, 3))
LEARNED = ROPE.model_copy(
    update={
        "position": "learned",
        "position_grid": 5,
        "n_storage_tokens": 0,
        "mask_key_bias": False,
        "norm_eps": 1e-6,
    }
)
UNET = UNetDecoderConfig(inputs=WIDTH, widths=(12, 8, 6, 4), stem=4)
SMALL_ENCODER = SmallEncoderConfig(widths=(4, 4, 6, 6, 8), blocks=(0, 1, 1, 1, 2))
SMALL_DECODER = SmallDecoderConfig(inputs=(4, 4, 6, 6, 8), widths=(6, 6, 4, 4))


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter and statistic a value that changes the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith(
                ("periods", "inv_freq", "bias_mask", "num_batches_tracked", "_mean", "_std")
            ):
                continue
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if name.endswith(("gamma", "lambda1", "running_var")) or (
                "norm" in name and name.endswith("weight")
            ):
                value.copy_(0.5 + noise.abs())
            else:
                # By the number of inputs, so that signals neither die nor saturate the sigmoid.
                value.copy_(noise * (value[0].numel() ** -0.5 if value.ndim > 1 else 0.1))


def vit(config: ViTConfig, seed: int = 0) -> VisionTransformer:
    encoder = VisionTransformer(config).double().eval()
    randomize(encoder, seed)
    return encoder


def network(kind: str = "vit", seed: int = 0) -> DINOCell:
    """A float32 network of one of the two kinds, in evaluation mode."""
    parts = {"vit": (ROPE, UNET), "small": (SMALL_ENCODER, SMALL_DECODER)}[kind]
    made = build_network({"encoder": parts[0], "decoder": parts[1]}).eval()
    randomize(made, seed)
    return made


def card(made: DINOCell, **fields: object) -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "tiny",
            "architecture": made.architecture,
            "peak": 0.5,
            "fill": 0.1,
            "diameter": 30,
            **fields,
        }
    )


def image(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
