"""Draw what peak and fill do: a profile through a map, and cells of a real image at nine pairs.

python scripts/threshold_figures.py docs/images

Both pictures are cut by the program itself, not drawn by hand.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image
from skimage.color import label2rgb
from skimage.io import imread

from napari_dinocell.core.instances import flood
from napari_dinocell.core.overlay import overlay
from napari_dinocell.core.samples import sample_path
from napari_dinocell.core.segmenter import Segmenter

mpl.use("Agg")
from matplotlib import pyplot as plt

PEAKS, FILLS = (0.35, 0.6, 0.84), (0.05, 0.2, 0.34)
WINDOW = 150
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")


def profile():
    """A map along a line: two cells that touch, a faint one, and some haze."""
    x = np.arange(240)
    bumps = ((45, 34, 0.92), (96, 30, 0.72), (164, 22, 0.5), (211, 14, 0.16))
    return x, np.max([h * np.clip(1 - ((x - c) / w) ** 2, 0, 1) for c, w, h in bumps], axis=0)


def draw_profile(path):
    """Three pairs of thresholds on one profile; a bar of one color is one cell."""
    x, values = profile()
    tree = flood(np.tile(values, (3, 1)).astype(np.float32))
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), sharey=True)
    titles = ("low peak: what touches is one", "both in between", "both high: faint ones are lost")
    for axis, (peak, fill), title in zip(
        axes, ((0.22, 0.08), (0.45, 0.08), (0.65, 0.35)), titles, strict=True
    ):
        labels = tree.cut(peak, fill).labels[1]
        axis.plot(x, values, color="black", linewidth=1.2)
        axis.axhline(peak, color="#d55e00", linewidth=1)
        axis.axhline(fill, color="#56b4e9", linewidth=1)
        # Above the curve, in the order of the lines; beside them they would hide small cells.
        axis.text(234, 0.9, f"peak {peak}", color="#b34c00", ha="right")
        axis.text(234, 0.8, f"fill {fill}", color="#1f78a8", ha="right")
        for number, cell in enumerate(np.unique(labels[labels > 0])):
            inside = labels == cell
            color = COLORS[number % len(COLORS)]
            axis.fill_between(x, 0, values, where=inside, color=color, alpha=0.35)
            axis.fill_between(x, -0.09, -0.04, where=inside, color=color)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("px")
        axis.set_ylim(-0.11, 1.0)
        axis.set_xlim(0, 239)
    axes[0].set_ylabel("distance map")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def crowded(prediction):
    """Corner of the window in which the number of cells depends most on peak."""
    few, many = (prediction.labels(peak, FILLS[1]) for peak in (PEAKS[0], PEAKS[1]))
    height, width = few.shape
    corners = [
        (y, x) for y in range(0, height - WINDOW + 1, 25) for x in range(0, width - WINDOW + 1, 25)
    ]
    return max(
        corners, key=lambda c: count(many[at(c)]) - count(few[at(c)]) + count(many[at(c)]) / 50
    )


def at(corner):
    """Window that begins at a corner."""
    return tuple(slice(start, start + WINDOW) for start in corner)


def count(labels):
    """Number of cells."""
    return len(np.unique(labels[labels > 0]))


def draw_grid(path, model):
    """Outlines of one image, peak rising from left to right and fill from top to bottom."""
    plane = imread(sample_path("fluorescence"))
    with Segmenter.from_pretrained(model).predict(plane) as prediction:
        window = at(crowded(prediction))
        cuts = {(p, f): prediction.labels(p, f)[window] for f in FILLS for p in PEAKS}
    figure, axes = plt.subplots(len(FILLS), len(PEAKS), figsize=(7.2, 7.8))
    for (peak, fill), axis in zip(cuts, axes.ravel(), strict=True):
        labels = cuts[peak, fill]
        gray = overlay(plane[window], np.zeros_like(labels))
        axis.imshow(label2rgb(labels, gray, alpha=0.35, bg_label=0, saturation=1))
        axis.contour(labels > 0, levels=[0.5], colors="white", linewidths=0.6)
        axis.set_title(f"peak {peak}, fill {fill}: {count(labels)} cells", fontsize=9)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="bundled name or model file")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    draw_profile(arguments.folder / "thresholds-profile.png")
    draw_grid(arguments.folder / "thresholds-grid.png", arguments.model)
    for name in ("thresholds-profile.png", "thresholds-grid.png"):
        path = arguments.folder / name
        Image.open(path).convert("RGB").quantize(160).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
