"""How much a shift of the image changes the cells of a model, away from the border.

    python benchmarks/shift.py
    python benchmarks/shift.py small vits8 --data DATA --set usiigaci_phase --images 5

Each image is segmented whole, and again without its first rows and columns, in the same size. Cells
that lie inside the common part, 32 px from its border, are matched. Bar: AP50 of shifted against
unshifted >= 0.95.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from napari_dinocell.core.images import Image, image_from_array, read_image
from napari_dinocell.core.metrics import pool, score_image
from napari_dinocell.core.model.files import bundled_models
from napari_dinocell.core.samples import SAMPLES
from napari_dinocell.core.segmenter import Segmenter

BAR = 0.95
MARGIN = 32
SHIFTS = ((1, 1), (3, 5), (8, 0), (19, 50), (64, 101))


def images(options: argparse.Namespace) -> list[Image]:
    """Test images of the chosen sets, or the bundled samples."""
    if options.data is None:
        return [read_image(sample.path) for sample in SAMPLES]
    found: list[Image] = []
    with open(options.data / "index.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == options.split]
    for name in options.set or sorted({row["set"] for row in rows}):
        chosen = [row for row in rows if row["set"] == name]
        step = max(1, len(chosen) // options.images)
        found += [read_image(options.data / row["image"]) for row in chosen[::step]]
    return found


def inner(labels: np.ndarray) -> np.ndarray:
    """Only the cells that touch no pixel of the margin."""
    outside = np.ones(labels.shape, bool)
    outside[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    return np.where(np.isin(labels, np.unique(labels[outside])), 0, labels)


def shifted_scores(segmenter: Segmenter, image: Image) -> list:
    """One score per shift; the whole image is taken for the truth."""
    whole = segmenter.predict(image)
    diameter = segmenter.card.diameter / whole.scale
    labels, scores = whole.labels(), []
    for dy, dx in SHIFTS:
        if min(labels.shape[0] - dy, labels.shape[1] - dx) <= 3 * MARGIN:
            continue
        part = image_from_array(np.asarray(image.array)[dy:, dx:], image.axes)
        moved = segmenter.predict(part, ranges=whole.ranges, diameter=diameter).labels()
        scores.append(score_image(inner(labels[dy:, dx:]), inner(moved)))
    return scores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names or files; all bundled ones if none")
    parser.add_argument("--data", type=Path, help="folder with index.csv; bundled samples if none")
    parser.add_argument("--set", nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=3, help="per set")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    chosen = images(options)
    broken = False
    for name in options.models or bundled_models():
        segmenter = Segmenter.from_pretrained(name, options.device)
        scores = [s for image in chosen for s in shifted_scores(segmenter, image)]
        result = pool(scores)
        ap50 = result.ap50
        broken |= not ap50 >= BAR
        print(
            f"{name}: AP50 of shifted against unshifted {ap50:.3f} (bar {BAR}), {len(scores)} pairs"
        )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
