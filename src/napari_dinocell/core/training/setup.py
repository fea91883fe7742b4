"""From a configuration to all that a training run works on."""

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_dinocell.core.model.decoder import UNetDecoder, UNetDecoderConfig
from napari_dinocell.core.model.files import load_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.small import SmallDecoder, SmallEncoder
from napari_dinocell.core.model.vit import VIT_B, VIT_L, VIT_S, VIT_S_LEARNED, VisionTransformer
from napari_dinocell.core.model.weights import load_weights
from napari_dinocell.core.training.config import Config, ModelSettings
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.distributed import World, synchronize_batch_norm
from napari_dinocell.core.training.records import CropRecords
from napari_dinocell.core.training.sources import open_datasets

logger = logging.getLogger(__name__)

_BACKGROUND = 0.05  # value of the map with which an untrained decoder begins
ENCODERS = {"vits8": VIT_S, "vitb8": VIT_B, "vitl8": VIT_L, "vits8-learned": VIT_S_LEARNED}


@dataclass(frozen=True)
class Run:
    """What the loop works on.

    Attributes
    ----------
    network : DINOCell
        On the device; its encoder takes no gradient when it is frozen.
    trained : module
        The part that learns: the decoder, or the whole network.
    records : CropRecords
        Training crops.
    validation : LabeledDataset
        Whole images to be scored on.
    dtype : torch.dtype
        Precision of the forward passes; the weights stay float32.
    """

    network: DINOCell
    trained: nn.Module
    records: CropRecords
    validation: LabeledDataset
    dtype: torch.dtype


class TrainStep(nn.Module):
    """The forward pass of a step as one module, so that gradients are shared between processes."""

    def __init__(self, network: DINOCell) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, features: list[Tensor] | None) -> Tensor:
        """Map (B, 1, Y, X) of crops (B, 3, Y, X), from frozen features where they are given."""
        if features is not None:
            return self.network.decode(features, image)
        return self.network(image)  # type: ignore[no-any-return]


def prepare(config: Config, place: World, device: torch.device) -> Run:
    """Read data and weights; the same in every process but for its share of the cache."""
    dtype = training_dtype(config.precision, device)
    training, validation = open_datasets(config.data)
    network = build(config.model).to(device)
    if config.model.freeze_encoder:
        network.freeze_encoder()
    elif isinstance(network.encoder, VisionTransformer):
        # Neither takes part in the forward pass of the features.
        network.encoder.mask_token.requires_grad_(False)
        network.encoder.norm.requires_grad_(False)
    if place.size > 1:
        synchronize_batch_norm(network)
    teacher = None
    if config.distill is None:
        _check_labels(training)
    else:
        teacher = load_model(config.distill.teacher)[0].to(device).eval().requires_grad_(False)
    records = CropRecords(
        training,
        config.crops,
        config.augment,
        seed=config.seed,
        encoder=network if config.model.freeze_encoder else None,
        teacher=teacher,
        device=device,
        dtype=dtype,
        share=1 / place.size,
    )
    trained = network.decoder if config.model.freeze_encoder else network
    return Run(network, trained, records, validation, dtype)


def _check_labels(training: LabeledDataset) -> None:
    without = [item for item in training if not item.is_labeled]
    if without:
        raise ValueError(
            f"{len(without)} images have no labels, {without[0].image.name} for one; only a teacher "
            "can make use of them: set distill.teacher, or leave their set out."
        )


def build(settings: ModelSettings) -> DINOCell:
    """Network as configured, with the weights that were asked for.

    Raises
    ------
    ModelFileError
        If asked-for weights do not load completely.
    """
    if settings.init is not None:
        network, card = load_model(settings.init)
        logger.info("Started from %s.", card.name)
        return network
    if settings.encoder == "small":
        network = DINOCell(SmallEncoder(), SmallDecoder())
    else:
        vit = ENCODERS[settings.encoder]
        decoder = UNetDecoderConfig(
            inputs=vit.width, widths=settings.decoder_widths, stem=settings.decoder_stem
        )
        network = DINOCell(VisionTransformer(vit), UNetDecoder(decoder))
    # Most of a map is background. A decoder that begins there, and not at 0.5, has no need to spend
    # its first hundreds of steps on the way (as the prior of Lin et al., Focal loss, 2017).
    bias = network.decoder.head.bias
    assert bias is not None
    nn.init.constant_(bias, math.log(_BACKGROUND / (1 - _BACKGROUND)))
    if settings.encoder_weights is not None:
        logger.info("%s", load_weights(network.encoder, settings.encoder_weights))
    return network


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Precision of the forward passes: what was asked for, else bfloat16 on CUDA."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.float32 if precision == "float32" else torch.bfloat16
