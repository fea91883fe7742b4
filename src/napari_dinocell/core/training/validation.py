"""How good a network is on labeled images, by the way that users take: `Segmenter.predict`."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.confidence import ConfidenceFit, auroc, features, fit_confidence
from napari_dinocell.core.evaluation import Evaluation, ScoredImage, summarize
from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.data import LabeledDataset, LabeledImage
from napari_dinocell.core.training.readers import read_index, read_labeled
from napari_dinocell.core.training.tuning import (
    Case,
    ThresholdGrid,
    Thresholds,
    tune_thresholds,
)

Diameter = Literal["given", "auto"] | float | None
"""What is told: the median of the image's own labels, to estimate it, pixels, or nothing."""


def load_split(
    folder: str | Path, split: str = "val", sets: Collection[str] | None = None
) -> LabeledDataset:
    """Images to be scored: a split of a folder with an index.csv, or all of another source.

    Sets that must not be trained on are included: scoring is allowed. Kinds of sources and errors
    as `read_labeled`.
    """
    if (Path(folder) / "index.csv").is_file():
        return read_index(folder, split, sets=sets, for_training=False)
    return read_labeled(folder, split, sets=sets)


def predict_maps(
    segmenter: Segmenter,
    dataset: LabeledDataset,
    *,
    diameter: Diameter = "given",
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> list[Case]:
    """Predict and flood every image once; what follows are cheap cuts.

    Parameters
    ----------
    segmenter : Segmenter
    dataset : LabeledDataset
    diameter : "given", "auto", float or None
        See `Diameter`. Images without instances are predicted as if nothing was given.
    progress : callable, optional
        Called with (images done, images in all).
    cancel : callable, optional
        Asked before each batch; true stops with `Cancelled`.

    Returns
    -------
    list of Case
        In the order of the data set.
    """
    cases = []
    for index, item in enumerate(dataset):
        plane, truth = dataset.read(index)
        start = time.perf_counter()
        prediction = segmenter.predict(
            plane,
            axes="YX" if plane.ndim == 2 else "YXS",
            diameter=_diameter(item, diameter),
            cancel=cancel,
        )
        tree = prediction.tree(0)
        seconds = time.perf_counter() - start
        cases.append(Case(item.image.stem, item.set_name, tree, truth, seconds))
        if progress is not None:
            progress(index + 1, len(dataset))
    return cases


@dataclass(frozen=True)
class ModelEvaluation:
    """Scores of a model at fixed thresholds, and how well its confidence tells hits from misses.

    Attributes
    ----------
    thresholds : Thresholds
    scores : Evaluation
    confidence : ConfidenceFit or None
        Fitted to all predicted cells; None without any.
    auroc : float
        Of confidences that were fitted to the other images (five parts); NaN if undefined.
    """

    thresholds: Thresholds
    scores: Evaluation
    confidence: ConfidenceFit | None
    auroc: float

    def title(self) -> str:
        """Thresholds and quality of the confidence in one line."""
        at = self.thresholds
        return (
            f"peak {at.peak:g}, fill {at.fill:g}, min area {at.min_area} px, min prominence "
            f"{at.min_prominence:g}; AUROC of the confidence {self.auroc:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `json.dumps`."""
        return {
            "thresholds": asdict(self.thresholds),
            "confidence": None if self.confidence is None else self.confidence.coefficients,
            "confidence_auroc": None if math.isnan(self.auroc) else self.auroc,
            **self.scores.to_json(),
        }


def evaluate(cases: Sequence[Case], thresholds: Thresholds, *, seed: int = 0) -> ModelEvaluation:
    """Score predicted maps at fixed thresholds, per set and pooled.

    Parameters
    ----------
    cases : sequence of Case
        From `predict_maps`.
    thresholds : Thresholds
        Tuned on other images, or on these where they are the validation images.
    seed : int
        Of the bootstrap over images.
    """
    images = [ScoredImage(c.name, c.set_name, c.score(thresholds), c.seconds) for c in cases]
    fit, honest = _fit_confidence(cases, thresholds)
    return ModelEvaluation(thresholds, summarize(images, seed=seed), fit, honest)


def evaluate_model(
    model: str,
    folder: str | Path,
    split: str = "val",
    sets: Collection[str] | None = None,
    *,
    diameter: str = "given",
    tune: bool = False,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ModelEvaluation:
    """Score a model on a split of a data folder.

    Parameters
    ----------
    model : str
        Name of a bundled model, or a model file.
    folder, split, sets
        As `load_split`.
    diameter : str
        "given", "auto", "none", or a number of pixels.
    tune : bool
        Tune the thresholds on these images first, instead of taking the model's.
    device : str
        As `Segmenter.from_pretrained`.
    seed : int
        Of the bootstrap over images.
    progress : callable, optional
        As in `predict_maps`.

    Raises
    ------
    ValueError
        If `diameter` is none of these, or `tune` is asked for on another split than "val".
    FileNotFoundError, ModelFileError, ImageFileError
        If the data or the model can't be read.
    """
    told = parse_diameter(diameter)
    if tune and split != "val":
        raise ValueError(
            f"Thresholds would be tuned on the split {split!r}; tune on 'val', and score the "
            "others with the thresholds that it gave."
        )
    dataset = load_split(folder, split, sets)
    segmenter = Segmenter.from_pretrained(model, device)
    card = segmenter.card
    cases = predict_maps(segmenter, dataset, diameter=told, progress=progress)
    thresholds = Thresholds(card.peak, card.fill, card.min_area, card.min_prominence)
    if tune:
        thresholds = tune_thresholds(cases, ThresholdGrid.for_lift(card.target.lift)).thresholds
    return evaluate(cases, thresholds, seed=seed)


def parse_diameter(text: str) -> Diameter:
    """Diameter from a command line: "given", "auto", "none" or a number of pixels.

    Examples
    --------
    >>> parse_diameter("none"), parse_diameter("26.5")
    (None, 26.5)
    """
    if text == "given" or text == "auto":
        return text  # type: ignore[return-value]
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(
            f"Diameter is {text!r}; choose given, auto, none, or a positive number of pixels."
        )
    return value


def _diameter(item: LabeledImage, diameter: Diameter) -> float | Literal["auto"] | None:
    if diameter != "given":
        return diameter
    return None if math.isnan(item.diameter) else item.diameter


def _fit_confidence(
    cases: Sequence[Case], thresholds: Thresholds, n_parts: int = 5
) -> tuple[ConfidenceFit | None, float]:
    """Fit to all cells, and the AUROC of fits to the images of the other parts."""
    cells = [_cells(case, thresholds) for case in cases]
    x = np.concatenate([rows for rows, _ in cells] or [np.zeros((0, 3))])
    hits = np.concatenate([hit for _, hit in cells] or [np.zeros(0, bool)])
    if not len(x):
        return None, math.nan
    part = np.repeat(np.arange(len(cells)) % n_parts, [len(rows) for rows, _ in cells])
    ranks = np.full(len(x), np.nan)
    for k in range(n_parts):
        if (part == k).any() and (part != k).any():
            coefficients = fit_confidence(x[part != k], hits[part != k]).coefficients
            weights = [coefficients[name] for name in ("height", "prominence", "mean")]
            ranks[part == k] = coefficients["intercept"] + x[part == k] @ weights
    known = ~np.isnan(ranks)
    return fit_confidence(x, hits), auroc(ranks[known], hits[known])


def _cells(
    case: Case, thresholds: Thresholds
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Features of the cells that can be judged, and whether they have IoU > 0.5 with a true one."""
    cut = case.tree.cut(**asdict(thresholds))
    known = case.truth >= 0
    table = overlap_table(np.where(known, case.truth, 0), np.where(known, cut.labels, 0))
    rows = np.searchsorted(cut.ids, table.pred_ids)
    return features(cut)[rows], table.best_ious() > 0.5
