"""Score a network in training on whole validation images, and keep the best as a model file."""

import copy
import json
import logging
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.transform import resize
from torch import nn

from napari_dinocell.core.model.card import BackboneReference, InputCard, ModelCard, TargetCard
from napari_dinocell.core.model.files import load_backbone, read_card, save_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.overlay import overlay
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.config import Config
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.setup import Run
from napari_dinocell.core.training.tuning import Case, ThresholdGrid, Thresholds, tune_thresholds
from napari_dinocell.core.training.validation import ModelEvaluation, evaluate, predict_maps

logger = logging.getLogger(__name__)


class Scorer:
    """Validation of one run.

    Attributes
    ----------
    path : Path
        Model file of the best scores so far; beside it ``<name>.scores.json``.
    best : float
        Its objective, in [0, 1]: mean over the sets of (OP_CSB + AP50) / 2; -1 before the first.
    """

    def __init__(self, config: Config, run: Run, device: torch.device) -> None:
        self._config, self._run, self._device = config, run, device
        self._picture: NDArray[np.uint8] | None = None
        self.best = -1.0  # so that a network that finds nothing is written, too
        self.path = Path(config.out) / f"{config.name}.safetensors"

    def score(self, trained: nn.Module, step: int) -> dict[str, float]:
        """Predict, tune the thresholds, score; write the model file if it is the best.

        Parameters
        ----------
        trained : module
            The averaged decoder, or the averaged network.
        step : int
            Number of steps that it has seen.

        Returns
        -------
        dict
            ``objective`` and, per set, ``<set>/AP50`` and ``<set>/OP_CSB``.
        """
        network = self._network(trained)
        card = self._card()
        segmenter = Segmenter(network, card, self._device)
        cases = predict_maps(segmenter, self._run.validation, diameter="given")
        tuned = tune_thresholds(cases, ThresholdGrid.for_lift(card.target.lift))
        evaluation = evaluate(cases, tuned.thresholds)
        self._picture = _contact_sheet(self._run.validation, cases, tuned.thresholds)
        values = {"objective": tuned.objective}
        for name, result in evaluation.scores.sets.items():
            values |= {f"{name}/AP50": result.score.ap50, f"{name}/OP_CSB": result.score.op_csb}
        if tuned.objective > self.best:
            self.best = tuned.objective
            self._write(network, card, evaluation, step)
        return values

    def picture(self) -> NDArray[np.uint8]:
        """Outlines on one validation image of each set, (Y, X, 3)."""
        if self._picture is None:
            raise RuntimeError("There is no picture yet; call score first.")
        return self._picture

    def _network(self, trained: nn.Module) -> DINOCell:
        if isinstance(trained, DINOCell):
            network = copy.deepcopy(trained)
        else:
            network = DINOCell(self._run.network.encoder, copy.deepcopy(trained))  # type: ignore[arg-type]
        return network.to(self._device).eval()

    def _card(self) -> ModelCard:
        """Card of the run; thresholds are placeholders until they are tuned."""
        config = self._config
        lift = config.crops.lift
        return ModelCard(
            name=config.name,
            architecture=self._run.network.architecture,
            backbone=_backbone(config),
            input=InputCard(color=config.crops.color),
            target=TargetCard(kind="lifted" if lift > 0 else "edt", lift=lift),
            peak=lift + (1 - lift) * 0.47,
            fill=max(0.09, 0.65 * lift),
            diameter=config.crops.diameter,
            data=tuple(sorted(self._run.records.dataset.set_names)),
            command=shlex.join(["python", "-m", "napari_dinocell.core.train", *_arguments()]),
            seed=config.seed,
            licenses=config.licenses,
            notes=config.notes,
        )

    def _write(
        self, network: DINOCell, draft: ModelCard, evaluation: ModelEvaluation, step: int
    ) -> None:
        at, fit = evaluation.thresholds, evaluation.confidence
        scores = evaluation.to_json()
        summary = {key: value for key, value in scores.items() if key != "images"}
        card = draft.model_copy(
            update={
                "peak": at.peak,
                "fill": at.fill,
                "min_area": at.min_area,
                "min_prominence": at.min_prominence,
                "confidence": {} if fit is None else dict(fit.coefficients),
                "scores": {"steps": step, "diameter": "given", "validation": summary},
            }
        )
        save_model(self.path, network, card)
        part = self.path.with_suffix(".scores.part")
        part.write_text(json.dumps(scores, indent=1), encoding="utf-8")
        part.replace(self.path.with_suffix(".scores.json"))
        logger.info("Best so far: %s", self.path)


def _backbone(config: Config) -> BackboneReference | None:
    """The backbone file that the decoder is trained on; None when the encoder itself is trained."""
    if not config.model.freeze_encoder:
        return None
    if config.model.init is not None:
        return read_card(config.model.init).backbone
    if config.model.encoder_weights is None:
        return None
    return load_backbone(config.model.encoder_weights)[1]


def _arguments() -> list[str]:
    """Command line of this process without its folders, which differ from machine to machine."""
    words = []
    for word in sys.argv[1:]:
        key, equals, value = word.partition("=")
        words.append(f"{key}={Path(value).name}" if equals and Path(value).is_absolute() else word)
    return words


def _contact_sheet(
    dataset: LabeledDataset, cases: list[Case], thresholds: Thresholds, side: int = 320
) -> NDArray[np.uint8]:
    """First image of each set with its outlines, side by side."""
    seen: dict[str, NDArray[np.uint8]] = {}
    for index, case in enumerate(cases):
        if case.set_name in seen:
            continue
        labels = case.tree.cut(
            thresholds.peak,
            thresholds.fill,
            min_area=thresholds.min_area,
            min_prominence=thresholds.min_prominence,
        ).labels
        picture = overlay(dataset.read(index)[0], labels)
        seen[case.set_name] = (resize(picture, (side, side)) * 255).astype(np.uint8)
    return np.concatenate(list(seen.values()), axis=1)
