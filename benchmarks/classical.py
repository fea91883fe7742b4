"""Otsu and a distance-transform watershed per data set: what a network has to beat.

    python benchmarks/classical.py DATA
    python benchmarks/classical.py DATA --split test --json

Three parameters are tuned per set on its validation images, by the objective that the thresholds of
models are tuned by. A set without validation images takes the parameters of `--fallback`.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from napari_dinocell.core.evaluation import Evaluation, ScoredImage, summarize
from napari_dinocell.core.metrics import ImageScore, pool, score_image
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.readers import read_index


@dataclass(frozen=True)
class Parameters:
    """Of the baseline, in px: blur of the image, spacing of cell centers, smallest cell's area."""

    smoothing: float = 1.0
    spacing: int = 8
    min_area: int = 20


SMOOTHINGS = (0.5, 1.0, 2.0, 4.0)
SPACINGS = (2, 4, 6, 8, 11, 14, 22, 32)
MIN_AREAS = (0, 10, 20, 40, 80, 160, 320)


def segment(plane: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Labels of one plane (Y, X) or (Y, X, 3)."""
    labels = split_touching(plane, parameters.smoothing, parameters.spacing)
    return drop_small(labels, parameters.min_area)


def split_touching(plane: np.ndarray, smoothing: float, spacing: int) -> np.ndarray:
    """Foreground by Otsu, cut between the maxima of its distance transform.

    The rarer of Otsu's two classes is foreground, so that bright cells on dark ground and dark ones
    on bright ground are treated alike.
    """
    gray = rgb2gray(plane) if plane.ndim == 3 else plane.astype(float)
    smooth = ndimage.gaussian_filter(gray, smoothing)
    if smooth.min() == smooth.max():
        return np.zeros(gray.shape, np.int32)
    foreground = smooth > threshold_otsu(smooth)
    if foreground.mean() > 0.5:
        foreground = ~foreground
    foreground = ndimage.binary_fill_holes(foreground)
    # Plateaus of the transform would give several centers per cell.
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), 1.0)
    centers = peak_local_max(
        distance, min_distance=spacing, labels=foreground.astype(np.int32), exclude_border=False
    )
    markers = np.zeros(gray.shape, np.int32)
    markers[tuple(centers.T)] = np.arange(1, len(centers) + 1)
    return watershed(-distance, markers, mask=foreground)


def drop_small(labels: np.ndarray, min_area: int) -> np.ndarray:
    """Labels without the cells below an area (px)."""
    return np.where(np.bincount(labels.ravel()) >= min_area, np.arange(labels.max() + 1), 0)[labels]


def tune(dataset: LabeledDataset) -> dict[str, Parameters]:
    """Best parameters per set by (OP_CSB + AP50) / 2; the first of equally good ones."""
    scores: dict[str, dict[Parameters, list[ImageScore]]] = {}
    for index, item in enumerate(dataset):
        plane, truth = dataset.read(index)
        of_set = scores.setdefault(item.set_name, {})
        for smoothing, spacing in itertools.product(SMOOTHINGS, SPACINGS):
            labels = split_touching(plane, smoothing, spacing)
            for min_area in MIN_AREAS:
                score = score_image(truth, drop_small(labels, min_area))
                of_set.setdefault(Parameters(smoothing, spacing, min_area), []).append(score)

    def objective(scored: list[ImageScore]) -> float:
        pooled = pool(scored)
        return (pooled.op_csb + pooled.ap50) / 2

    return {
        name: max(of_set, key=lambda p: objective(of_set[p])) for name, of_set in scores.items()
    }


def evaluate(
    dataset: LabeledDataset, tuned: dict[str, Parameters], fallback: str = "dsb2018_fluo"
) -> Evaluation:
    """Scores per set and pooled."""
    images = []
    for index, item in enumerate(dataset):
        plane, truth = dataset.read(index)
        parameters = tuned.get(item.set_name, tuned.get(fallback, Parameters()))
        start = time.perf_counter()
        labels = segment(plane, parameters)
        seconds = time.perf_counter() - start
        score = score_image(truth, labels)
        images.append(ScoredImage(item.image.stem, item.set_name, score, seconds))
    return summarize(images)


def main(argv: Sequence[str] | None = None) -> int:
    """Tune on the validation images, score the splits asked for, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data folder with index.csv")
    parser.add_argument("--split", nargs="+", default=["val", "test"])
    parser.add_argument("--fallback", default="dsb2018_fluo", help="see above")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of tables")
    options = parser.parse_args(argv)
    tuned = tune(read_index(options.data, "val", for_training=False))
    results: dict[str, Any] = {"parameters": {name: asdict(p) for name, p in tuned.items()}}
    console = Console(width=140, stderr=options.json)
    console.print(results["parameters"])
    for split in options.split:
        scores = evaluate(
            read_index(options.data, split, for_training=False), tuned, options.fallback
        )
        results[split] = scores.to_json()
        console.print(scores.table(f"Otsu + distance-transform watershed, {split}"))
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
