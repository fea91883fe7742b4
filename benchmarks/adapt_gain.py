"""What an adaptation gains on cells that nobody annotated, by the number of annotated cells.

    python benchmarks/adapt_gain.py DATA
    python benchmarks/adapt_gain.py DATA --models vits8 --cells 10 --learning-rate 1e-3

DATA is a folder with index.csv. Of each set come validation images, cut to their first 256 x 256 px,
with at least twice as many cells as are annotated at most. Cells are annotated in random order; all
numbers of cells and all models are scored on the same cells, those that are annotated for none. What
is found on annotated cells is left out of the scores.

Printed per model, set and number of cells, over the images: SEG, recall (IoU >= 0.5) and AP50 of the
base, of the base with the thresholds that the adaptation chose for it, and of the adapted model.
Where the adaptation kept the base, the three agree or the last two do; the last column says it.
The boxes in time are those of the command: a busy computer gains less.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from napari_dinocell.core.adapt import Example, Limits, Recipe, adapt
from napari_dinocell.core.images import Image, read_image
from napari_dinocell.core.metrics import ImageScore, pool, score_image
from napari_dinocell.core.prediction import Prediction, Thresholds
from napari_dinocell.core.segmenter import Segmenter

SIDE = 256
SETS = ["dsb2018_fluo", "dsb2018_stained"]


def read_planes(data: Path, name: str, count: int, least: int) -> list[tuple[Image, np.ndarray]]:
    """Evenly spread validation images of a set and their labels."""
    with open(data / "index.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["set"], row["split"]) == (name, "val")]
    found = []
    for row in rows:
        image = read_image(data / row["image"])
        labels = np.asarray(read_image(data / row["label"], "YX").array)[:SIDE, :SIDE]
        if len(np.setdiff1d(labels, [0])) >= least:
            found.append((Image(np.asarray(image.array)[:SIDE, :SIDE], image.axes), labels))
    if not found:
        sys.exit(f"{name} has no validation image with {least} cells; annotate fewer with --cells.")
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))]


def median_diameter(labels: np.ndarray) -> float:
    """Of the cells, px."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi)))


def score(
    prediction: Prediction, at: Thresholds, judged: np.ndarray, annotated: np.ndarray
) -> ImageScore:
    """Score on the cells that count; what mostly lies on annotated ones is left out."""
    found = prediction.labels(at.peak, at.fill)
    areas = np.bincount(found.ravel())
    inside = np.bincount(found.ravel(), weights=annotated.ravel())
    return score_image(judged, np.where((inside > areas / 2)[found], 0, found))


def gains(model: str, name: str, options: argparse.Namespace) -> None:
    """Print one line per number of cells."""
    base = Segmenter.from_pretrained(model, options.device)
    recipe = Recipe(learning_rate=options.learning_rate, batch=options.batch, seed=options.seed)
    limits = Limits(options.feature_seconds, options.training_seconds)
    planes = read_planes(options.data, name, options.images, 2 * max(options.cells))
    for n_cells in options.cells:
        scores: dict[str, list[ImageScore]] = {"base": [], "thresholds": [], "adapted": []}
        verdicts = []
        for image, labels in planes:
            order = np.random.default_rng(options.seed).permutation(np.setdiff1d(labels, [0]))
            annotated = np.isin(labels, order[: max(options.cells)])
            partial = np.where(np.isin(labels, order[:n_cells]), labels, 0)
            diameter = median_diameter(partial)
            before = base.predict(image, diameter=diameter)
            example = Example(image, partial, intensity=before.ranges[0], scale=before.scale)
            result = adapt(
                (base.network, base.card),
                [example],
                recipe=recipe,
                limits=limits,
                device=options.device,
            )
            report = result.report
            after = result.segmenter(options.device).predict(image, diameter=diameter)
            for kind, prediction, at in (
                ("base", before, report.before),
                ("thresholds", before, report.tuned or report.before),
                ("adapted", after, report.after),
            ):
                judged = np.where(annotated, 0, labels)
                scores[kind].append(score(prediction, at, judged, annotated))
            verdicts.append(report.verdict)
        print(f"{model:6} {name:16} {n_cells:3} cells", end="")
        for kind, found in scores.items():
            pooled = pool(found)
            recall = sum(one.tp50 for one in found) / pooled.n_true
            print(f" | {kind} {pooled.seg:.3f} {recall:.3f} {pooled.ap50:.3f}", end="")
        print(f" | {', '.join(verdicts)}; {pooled.n_true} cells judge", flush=True)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["vits8"])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--images", type=int, default=2, help="per set")
    parser.add_argument("--cells", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--learning-rate", type=float, default=Recipe().learning_rate)
    parser.add_argument("--batch", type=int, default=Recipe().batch)
    parser.add_argument("--feature-seconds", type=float, default=Limits().feature_seconds)
    parser.add_argument("--training-seconds", type=float, default=Limits().training_seconds)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for model in options.models:
        for name in options.sets:
            gains(model, name, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
