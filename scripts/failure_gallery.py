"""Draw the worst validation images of a model: what is missed, split, merged, spurious or misshapen.

python scripts/failure_gallery.py DATA runs/failures
python scripts/failure_gallery.py DATA runs/failures --model small --images 2 --diameter none

One PNG per set: each of its worst images by AP50 in a row, plain, the truth, the result. Cells that
were found are drawn thin and green; the others in the color of what went wrong with them. Nothing
is picked by eye; the command prints which images these are, and how many failures of each kind.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.patches import Patch
from PIL import Image
from scipy import ndimage

from napari_dinocell.core.intensity import intensity_range, normalize
from napari_dinocell.core.metrics import pool, score_table
from napari_dinocell.core.overlaps import OverlapTable, overlap_table
from napari_dinocell.core.overlay import edge_pixels
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.tuning import Case, Thresholds
from napari_dinocell.core.training.validation import load_split, parse_diameter, predict_maps

mpl.use("Agg")
from matplotlib import pyplot as plt

Labels = npt.NDArray[np.integer]
Kinds = dict[int, str]
COLORS = {
    "found": "#30e030",
    "missed": "#e6194b",
    "split": "#ff8c00",
    "merged": "#d840fb",
    "spurious": "#00b4ff",
    "misshapen": "#ffe119",
}
"""Of each kind, apart in hue and brightness."""
DPI = 110
PANEL = 350
"""Width of a panel, px."""


@dataclass(frozen=True)
class Failure:
    """One image with its truth, its result and what became of each cell of both."""

    name: str
    ap50: float
    plane: npt.NDArray[Any]
    truth: Labels
    labels: Labels
    true_kinds: Kinds
    pred_kinds: Kinds


def classify(table: OverlapTable) -> tuple[Kinds, Kinds]:
    """What became of each reference cell and what each found cell is, by id.

    Parameters
    ----------
    table : OverlapTable

    Returns
    -------
    of_true, of_pred : dict of int to str
        "found": a pair with IoU of at least 0.5. Of the rest: "merged", the found cell covers more
        than half of several references, and these; "split", the reference has several found cells
        that lie in it by more than half, and these; "missed", no found cell covers more than half
        of the reference; "spurious", a found cell that lies in no reference by more than half;
        "misshapen", what is left: the right cell by less than half.
    """
    inside_true = 2 * table.intersections > table.pred_areas[table.columns]
    covers_true = 2 * table.intersections > table.true_areas[table.rows]
    parts = np.bincount(table.rows[inside_true], minlength=len(table.true_ids))
    covered = np.bincount(table.columns[covers_true], minlength=len(table.pred_ids))
    of_true = np.full(len(table.true_ids), "missed", object)
    of_pred = np.full(len(table.pred_ids), "spurious", object)
    # Later kinds win over earlier ones.
    of_true[table.rows[covers_true]] = "misshapen"
    of_pred[table.columns[inside_true | covers_true]] = "misshapen"
    split = inside_true & (parts[table.rows] > 1)
    of_true[table.rows[split]] = of_pred[table.columns[split]] = "split"
    merged = covers_true & (covered[table.columns] > 1)
    of_true[table.rows[merged]] = of_pred[table.columns[merged]] = "merged"
    good = table.ious >= 0.5
    of_true[table.rows[good]] = of_pred[table.columns[good]] = "found"
    return (
        dict(zip(table.true_ids.tolist(), of_true, strict=True)),
        dict(zip(table.pred_ids.tolist(), of_pred, strict=True)),
    )


def judged(case: Case, plane: npt.NDArray[Any], thresholds: Thresholds) -> Failure:
    """Cut a predicted map, and look at every cell of result and truth."""
    truth = np.maximum(case.truth, 0)
    labels = case.tree.cut(**asdict(thresholds)).labels
    table = overlap_table(truth, labels)
    ap50 = pool([score_table(table)]).ap50
    return Failure(case.name, ap50, plane, truth, labels, *classify(table))


def drawn(plane: npt.NDArray[Any], labels: Labels, kinds: Kinds) -> npt.NDArray[np.uint8]:
    """(Y, X, 3): outlines by kind on the image; thicker on large ones and where it went wrong.

    Gray where there are outlines.
    """
    shown = np.clip(normalize(plane, intensity_range(plane)), 0, 1)
    if kinds and shown.ndim == 3:  # a stain would hide the colors of the kinds
        shown = shown.mean(axis=2)
    picture = np.round(255 * shown).astype(np.uint8)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., np.newaxis], 3, axis=2)
    lookup = np.full(int(labels.max(initial=0)) + 1, "", object)
    for id_, kind in kinds.items():
        lookup[id_] = kind
    edge, thin = edge_pixels(labels), max(labels.shape) // PANEL
    for kind, color in COLORS.items():
        of_kind = lookup[labels] == kind
        line, wider = edge & of_kind, thin + (kind != "found")
        if wider:
            line = ndimage.binary_dilation(line, iterations=wider) & of_kind
        picture[line] = np.round(255 * np.array(mpl.colors.to_rgb(color)))
    return picture


def gallery(path: Path, title: str, failures: Sequence[Failure]) -> None:
    """Write one PNG with a row per image."""
    width = PANEL / DPI
    heights = [width * f.truth.shape[0] / f.truth.shape[1] + 0.4 for f in failures]
    figure, axes = plt.subplots(
        len(failures), 3, figsize=(3 * width, sum(heights) + 0.7), dpi=DPI, squeeze=False,
        layout="constrained", height_ratios=heights,
    )  # fmt: skip
    for line, failure in zip(axes, failures, strict=True):
        nothing = np.zeros_like(failure.truth)
        panels = (
            (f"{failure.name}, AP50 {failure.ap50:.2f}", nothing, {}),
            (f"truth\n{counted(failure.true_kinds)}", failure.truth, failure.true_kinds),
            (f"result\n{counted(failure.pred_kinds)}", failure.labels, failure.pred_kinds),
        )
        for axis, (text, labels, kinds) in zip(line, panels, strict=True):
            axis.imshow(drawn(failure.plane, labels, kinds), interpolation="nearest")
            axis.set_title(text, fontsize=7)
            axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    patches = [Patch(color=color, label=kind) for kind, color in COLORS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=8)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    with_few_colors(Image.fromarray(pixels)).save(path, optimize=True)
    plt.close(figure)


def with_few_colors(picture: Image.Image) -> Image.Image:
    """The same to the eye in a third of the bytes: 200 colors of its own, and those of the kinds."""
    own = picture.quantize(200, Image.Quantize.MEDIANCUT).getpalette()[: 3 * 200]
    kinds = [round(255 * v) for color in COLORS.values() for v in mpl.colors.to_rgb(color)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(kinds + own)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def counted(kinds: Kinds) -> str:
    """Numbers by kind, such as "12 found, 3 missed"."""
    numbers = Counter(kinds.values())
    return ", ".join(f"{numbers[kind]} {kind}" for kind in COLORS if numbers[kind]) or "no cell"


def main(argv: Sequence[str] | None = None) -> int:
    """Predict a split, draw the worst images of each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data folder with index.csv")
    parser.add_argument("output", type=Path, help="folder of the pictures")
    parser.add_argument("--model", default="vits8", help="bundled name or model file")
    parser.add_argument("--split", default="val")
    parser.add_argument("--sets", nargs="+", help="all of the split if none")
    parser.add_argument("--diameter", default="given", help="given, auto, none, or px")
    parser.add_argument("--images", type=int, default=2, help="worst images to draw per set")
    parser.add_argument("--of", type=int, help="look at the first so many of each set only")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    dataset = load_split(options.data, options.split, options.sets)
    segmenter = Segmenter.from_pretrained(options.model, options.device)
    card = segmenter.card
    thresholds = Thresholds(card.peak, card.fill, card.min_area, card.min_prominence)
    for name in dataset.set_names:
        chosen = [i for i, item in enumerate(dataset) if item.set_name == name][: options.of]
        part = dataset.subset(chosen)
        cases = predict_maps(segmenter, part, diameter=parse_diameter(options.diameter))
        found = [judged(case, part.read(i)[0], thresholds) for i, case in enumerate(cases)]
        found = [failure for failure in found if failure.true_kinds]
        worst = sorted(found, key=lambda failure: (failure.ap50, failure.name))[: options.images]
        totals = Counter(kind for failure in found for kind in failure.true_kinds.values())
        spurious = sum(list(f.pred_kinds.values()).count("spurious") for f in found)
        print(f"{name}: of {totals.total()} cells {dict(totals)}, and {spurious} spurious")
        path = options.output / f"failures-{name}.png"
        title = f"{name} ({options.split}): the {len(worst)} worst of {len(found)}, {card.name}"
        gallery(path, title, worst)
        print(f"  {', '.join(failure.name for failure in worst)} -> {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
