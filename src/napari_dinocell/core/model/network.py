"""DINOCell: an encoder and a decoder from a normalized plane to its distance map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from napari_dinocell.core.model.decoder import UNetDecoder, UNetDecoderConfig
from napari_dinocell.core.model.small import (
    SmallDecoder,
    SmallDecoderConfig,
    SmallEncoder,
    SmallEncoderConfig,
)
from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Encoder = VisionTransformer | SmallEncoder
Decoder = UNetDecoder | SmallDecoder


class Architecture(BaseModel):
    """What has to be known to build a network before its weights are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: Annotated[ViTConfig | SmallEncoderConfig, Field(discriminator="kind")]
    decoder: Annotated[UNetDecoderConfig | SmallDecoderConfig, Field(discriminator="kind")]


class DINOCell(nn.Module):
    """Distance map of a plane; standardization and repetition of gray happen inside.

    `forward(x)` is `decode(features(x), x)`, so features may be cached while the encoder is frozen.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        for name, values in (("_mean", IMAGENET_MEAN), ("_std", IMAGENET_STD)):
            constant = torch.tensor(values).view(1, 3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain mapping from which `build_network` makes the same network."""
        return Architecture(encoder=self.encoder.config, decoder=self.decoder.config).model_dump(
            mode="json"
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Raw features of the encoder, shallow to deep, in the encoder's dtype.

        Parameters
        ----------
        x : (B, 1 or 3, Y, X) float
            Normalized plane, about [0, 1]; Y and X are multiples of 8.
        """
        return self.encoder.features(self._standardize(x).to(_dtype(self.encoder)))

    def decode(self, features: Sequence[Tensor], x: Tensor) -> Tensor:
        """Distance map from features.

        Parameters
        ----------
        features : sequence of tensors
            What `features(x)` gave; may be cached in half precision.
        x : (B, 1 or 3, Y, X) float
            The same normalized plane.

        Returns
        -------
        (B, 1, Y, X) in [0, 1], in the decoder's dtype
        """
        dtype = _dtype(self.decoder)
        image = self._standardize(x).to(dtype)
        return self.decoder([level.to(dtype) for level in features], image)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 or 3, Y, X) normalized plane -> (B, 1, Y, X) distance map in [0, 1]."""
        return self.decode(self.features(x), x)

    def freeze_encoder(self) -> None:
        """Stop gradients and statistics of the encoder; only the decoder can be trained then."""
        self.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> DINOCell:
        """Switch training mode; a frozen encoder keeps evaluating."""
        super().train(mode)
        if not any(p.requires_grad for p in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def _standardize(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3) or x.shape[2] % 8 or x.shape[3] % 8:
            raise ValueError(
                f"Input has shape {tuple(x.shape)}; "
                "expected (B, 1 or 3, Y, X) with Y and X multiples of 8."
            )
        # Gray broadcasts to three channels here. Kept in float32: bfloat16 has 8 bits of intensity.
        return (x.float() - self._mean.float()) / self._std.float()


def build_network(architecture: Mapping[str, Any] | Architecture) -> DINOCell:
    """Network with fresh weights.

    Raises
    ------
    ValueError
        If a field is unknown or out of range, or if encoder and decoder do not fit.
    """
    try:
        plan = Architecture.model_validate(architecture)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"Architecture field {where!r}: {first['msg']}; correct it.") from error
    encoder, decoder = plan.encoder, plan.decoder
    if isinstance(encoder, ViTConfig) and isinstance(decoder, UNetDecoderConfig):
        if encoder.width != decoder.inputs or encoder.patch != 8:
            raise ValueError(
                f"Encoder of width {encoder.width} and patch {encoder.patch} does not fit a "
                f"decoder for width {decoder.inputs} and patch 8; make them equal."
            )
        if not 0 <= min(encoder.levels) <= max(encoder.levels) < encoder.depth:
            raise ValueError(
                f"Levels {encoder.levels} are not among the blocks 0 to {encoder.depth - 1}; "
                "change levels or depth."
            )
        return DINOCell(VisionTransformer(encoder), UNetDecoder(decoder))
    if isinstance(encoder, SmallEncoderConfig) and isinstance(decoder, SmallDecoderConfig):
        if encoder.widths != decoder.inputs:
            raise ValueError(
                f"Encoder widths {encoder.widths} differ from the decoder's inputs "
                f"{decoder.inputs}; make them equal."
            )
        return DINOCell(SmallEncoder(encoder), SmallDecoder(decoder))
    raise ValueError(
        f"Encoder {encoder.kind!r} and decoder {decoder.kind!r} do not fit; "
        "use vit with unet or small with small."
    )


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
