"""The result of an adaptation: a network, its card, and how to keep them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from napari_dinocell.core.adapt.report import Report
from napari_dinocell.core.model.card import BackboneReference, ModelCard
from napari_dinocell.core.model.files import save_model
from napari_dinocell.core.model.library import keep_encoder
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.own import ENDING
from napari_dinocell.core.model.store import tensors_sha256
from napari_dinocell.core.prediction import Thresholds
from napari_dinocell.core.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Adapted:
    """A model that was adapted, or, where that did not help, its base with what did.

    Attributes
    ----------
    network : DINOCell
        Its encoder is the base's.
    card : ModelCard
        With the thresholds, the base and the report.
    report : Report
    """

    network: DINOCell
    card: ModelCard
    report: Report

    @property
    def thresholds(self) -> Thresholds:
        """Those of the result."""
        return self.report.after

    def segmenter(self, device: str | torch.device = "auto") -> Segmenter:
        """Segmenter with the adapted model.

        Parameters
        ----------
        device : str or torch.device
            As `Segmenter.from_pretrained`.

        Returns
        -------
        Segmenter
            It shares the network with this object.

        Raises
        ------
        ValueError
            If there is no such device.
        """
        return Segmenter(self.network, self.card, device)

    def save(self, path: str | Path, *, name: str | None = None, full: bool = False) -> ModelCard:
        """Write a model file that `Segmenter.from_pretrained` loads.

        It holds the decoder and the name and hash of its encoder, a few MB. The encoder itself is
        copied once into the user's model library, so that the file loads on this computer whatever
        becomes of the base, and on others that have the same base.

        Parameters
        ----------
        path : path
            Ends with `.safetensors`.
        name : str, optional
            Name in the card; by default that of the file.
        full : bool
            Put the encoder into the file, for computers that lack the base.

        Returns
        -------
        ModelCard
            As written.

        Raises
        ------
        ValueError, OSError
            As `save_model` and `keep_encoder`; a ValueError, too, if the encoder is no longer the
            one that the card names.
        """
        path = Path(path)
        card = self.card.model_copy(update={"name": name or path.stem})
        if not full and path.suffix == ENDING:
            keep_encoder(self.network)  # first, so that there is no model file without its encoder
        return save_model(path, self.network, card, full=full)


def adapted_card(network: DINOCell, base: ModelCard, report: Report) -> ModelCard:
    """Card of the result.

    Scores of the base are not those of the result and are left out; where the base names no
    backbone file, its own model file is the one.
    """
    backbone = base.backbone or BackboneReference(
        file=f"{base.name}.safetensors", sha256=tensors_sha256(network.encoder.state_dict())
    )
    return ModelCard.model_validate(
        base.model_dump()
        | {
            "name": f"{base.name}-adapted",
            "backbone": backbone.model_dump(),
            "peak": report.after.peak,
            "fill": report.after.fill,
            "data": tuple(dict.fromkeys((*base.data, "own annotations"))),
            "command": "",
            "seed": None,
            "scores": {},
            "adaptation": report.to_json(),
        }
    )
