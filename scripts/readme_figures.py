"""Draw the picture of the README: what a model finds in images that it never saw.

python scripts/readme_figures.py --data DATA
python scripts/readme_figures.py --data DATA --model small --output docs/images/results.png

Nothing is picked by eye: of each set's validation images the one with the median AP50 is shown,
the image above, the outlines of the cells below. The command prints which images these are.
"""

from pathlib import Path
from statistics import median_high
from typing import Annotated, Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import typer
from skimage.transform import resize

from napari_dinocell.core.metrics import pool, score_image
from napari_dinocell.core.overlay import overlay
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.readers import read_index

SETS = ("dsb2018_fluo", "usiigaci_phase", "dsb2018_stained")
PANEL = 384
GAP = 8
Array = npt.NDArray[Any]


def median_image(segmenter: Segmenter, images: LabeledDataset) -> tuple[Array, Array, str, float]:
    """Plane, predicted labels, name and AP50 of the image in the middle."""
    found = []
    for index, item in enumerate(images):
        plane, true = images.read(index)
        with segmenter.predict(plane, axes="YX" if plane.ndim == 2 else "YXS") as prediction:
            labels = prediction.labels()
        found.append((pool([score_image(true, labels)]).ap50, item.image.stem, plane, labels))
    middle = median_high([(ap, name) for ap, name, _, _ in found])
    ap, name, plane, labels = next(entry for entry in found if entry[:2] == middle)
    return plane, labels, name, ap


def panels(plane: Array, labels: Array) -> Array:
    """(2 * PANEL + GAP, PANEL, 3) uint8: the center of the image, plain and with outlines."""
    side = min(*labels.shape, PANEL)
    top, left = ((length - side) // 2 for length in labels.shape)
    window = (slice(top, top + side), slice(left, left + side))
    shape = (PANEL, PANEL)
    large = resize(plane[window], (*shape, *plane.shape[2:]), order=1, preserve_range=True)
    cells = resize(labels[window], shape, order=0, preserve_range=True, anti_aliasing=False)
    gap = np.full((GAP, PANEL, 3), 255, np.uint8)
    nothing = np.zeros(shape, np.int32)
    return np.concatenate([overlay(large, nothing), gap, overlay(large, cells.astype(np.int32))])


def main(
    data: Annotated[Path, typer.Option(help="Data folder with index.csv.")],
    model: Annotated[str, typer.Option(help="Bundled name or model file.")] = "vits8",
    output: Annotated[Path, typer.Option(help="PNG.")] = Path("docs/images/results.png"),
) -> None:
    """Draw one column per set."""
    segmenter = Segmenter.from_pretrained(model)
    columns: list[Array] = []
    for name in SETS:
        images = read_index(data, "val", sets=[name], for_training=False)
        plane, labels, stem, ap = median_image(segmenter, images)
        n_cells = len(np.unique(labels[labels > 0]))
        print(f"{name}: {stem}, {n_cells} cells, AP50 {ap:.3f} (median of {len(images)})")
        if columns:
            columns.append(np.full((2 * PANEL + GAP, GAP, 3), 255, np.uint8))
        columns.append(panels(plane, labels))
    output.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(output, np.concatenate(columns, axis=1))


if __name__ == "__main__":
    typer.run(main)
