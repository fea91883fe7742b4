"""What a change of the image costs the bundled models: AP50 per set, against the unchanged image.

    python benchmarks/robustness.py DATA --out runs/robustness
    python benchmarks/robustness.py DATA --models small --conditions unchanged blur --images 3

A condition is a change of the image and what is told of the diameter of its cells: `half:auto` is
the image at half its size with an estimated diameter; without a colon it is given (the median of
the image's own labels, halved with it). Labels are brought back to the size of the untouched truth.
Thresholds are those of the models' cards. Every finished condition is kept in `robustness.json`, so
that a run that was stopped goes on; `robustness.md` has the table.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from paired import paired_difference
from peers.protocol import resize_labels
from scipy import ndimage
from skimage.transform import resize

from napari_dinocell.core.metrics import ImageScore, pool, score_image
from napari_dinocell.core.model.files import bundled_models
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.validation import load_split

Plane = npt.NDArray[Any]
PERCENTILES = (1, 99.8)
REFERENCE = "unchanged"


def scaled(plane: Plane, factor: float) -> Plane:
    """Plane at another size, of the same dtype."""
    shape = [max(8, round(length * factor)) for length in plane.shape[:2]]
    new = resize(
        plane, (*shape, *plane.shape[2:]), order=1, preserve_range=True, anti_aliasing=factor < 1
    )
    return as_type(new, plane)


def as_type(values: Plane, like: Plane) -> Plane:
    """Values in the dtype of another plane, rounded and clipped where it has integers."""
    if like.dtype.kind not in "iu":
        return values.astype(like.dtype)
    limits = np.iinfo(like.dtype)
    return np.round(values).clip(limits.min, limits.max).astype(like.dtype)


def noisy(plane: Plane, share: float) -> Plane:
    """Gaussian noise; sigma is a share of the range between percentiles of the plane."""
    low, high = np.percentile(plane, PERCENTILES)
    noise = np.random.default_rng(0).normal(0, share * (high - low), plane.shape)
    return as_type(plane + noise, plane)


def blurred(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur of both axes, px."""
    sigmas = (sigma, sigma, 0)[: plane.ndim]
    return as_type(ndimage.gaussian_filter(plane.astype(np.float32), sigmas), plane)


def inverted(plane: Plane) -> Plane:
    """Bright for dark, within the plane's own range."""
    values = plane.astype(np.float64)
    return as_type(values.max() + values.min() - values, plane)


FACTORS = {"half": 0.5, "double": 2.0}
CHANGES: dict[str, Callable[[Plane], Plane]] = {
    REFERENCE: lambda plane: plane,
    "half": lambda plane: scaled(plane, FACTORS["half"]),
    "double": lambda plane: scaled(plane, FACTORS["double"]),
    "inverted": inverted,
    "noise-5%": lambda plane: noisy(plane, 0.05),
    "noise-10%": lambda plane: noisy(plane, 0.10),
    "noise-20%": lambda plane: noisy(plane, 0.20),
    "blur-1px": lambda plane: blurred(plane, 1),
    "blur-2px": lambda plane: blurred(plane, 2),
}
CONDITIONS = (
    REFERENCE,
    "unchanged:none",
    "unchanged:auto",
    "half",
    "half:none",
    "half:auto",
    "double",
    "double:none",
    "double:auto",
    "inverted",
    "noise-5%",
    "noise-10%",
    "noise-20%",
    "blur-1px",
    "blur-2px",
)


def score(segmenter: Segmenter, dataset: LabeledDataset, condition: str) -> list[dict[str, Any]]:
    """One row per image: its name and its `ImageScore`."""
    change, _, told = condition.partition(":")
    rows = []
    for index, item in enumerate(dataset):
        plane, truth = dataset.read(index)
        changed = CHANGES[change](plane)
        diameter: Any = {"none": None, "auto": "auto"}.get(told)
        if not told and not math.isnan(item.diameter):
            diameter = item.diameter * FACTORS.get(change, 1.0)
        axes = "YX" if changed.ndim == 2 else "YXS"
        with segmenter.predict(changed, axes=axes, diameter=diameter) as prediction:
            labels = resize_labels(prediction.labels(), truth.shape)
        rows.append({"name": item.image.stem, **asdict(score_image(truth, labels))})
    return rows


class Results:
    """Rows by model, condition and set, in a file that is replaced after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = {}
        if path.is_file():
            self.rows = json.loads(path.read_text(encoding="utf-8"))

    def has(self, key: str, names: Sequence[str]) -> bool:
        """Whether the same images were scored under this key."""
        return [row["name"] for row in self.rows.get(key, ())] == list(names)

    def put(self, key: str, rows: list[dict[str, Any]]) -> None:
        """Keep rows, on disk, too."""
        self.rows[key] = rows
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        os.replace(temporary, self.path)

    def scores(self, key: str) -> list[ImageScore]:
        """Scores of the images of a key."""
        return [
            ImageScore(**{k: v for k, v in row.items() if k != "name"}) for row in self.rows[key]
        ]


def key_of(model: str, weights: str, condition: str, set_name: str) -> str:
    return f"{model} {weights[:12]} | {condition} | {set_name}"


def table(results: Results, wanted: dict[str, str], options: argparse.Namespace) -> str:
    """Markdown: AP50 and its paired difference to the unchanged image."""
    lines = ["| model | condition | " + " | ".join(options.sets) + " |"]
    lines.append("|" + " --- |" * (2 + len(options.sets)))
    for model, weights in wanted.items():
        for condition in options.conditions:
            cells = []
            for name in options.sets:
                found = results.scores(key_of(model, weights, condition, name))
                cell = f"{pool(found).ap50:.3f}"
                if condition != REFERENCE and REFERENCE in options.conditions:
                    before = results.scores(key_of(model, weights, REFERENCE, name))
                    cell += f", {paired_difference(found, before, 'ap50')}"
                cells.append(cell)
            lines.append(f"| {model} | {condition} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Score what is not scored yet; write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data folder with index.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--models", nargs="+", default=list(bundled_models()))
    parser.add_argument("--sets", nargs="+", help="all of the split if none")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--images", type=int, help="at most so many of each set, evenly chosen")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    dataset = load_split(options.data, options.split, options.sets)
    options.sets = list(dataset.set_names)
    results, wanted = Results(options.out / "robustness.json"), {}
    for model in options.models:
        segmenter = Segmenter.from_pretrained(model, options.device)
        name = Path(model).stem
        wanted[name] = segmenter.model_hash
        for condition in options.conditions:
            for set_name in options.sets:
                chosen = [i for i, item in enumerate(dataset) if item.set_name == set_name]
                if options.images is not None:
                    chosen = chosen[:: max(1, -(-len(chosen) // options.images))]
                part = dataset.subset(chosen)
                key = key_of(name, wanted[name], condition, set_name)
                if not results.has(key, [item.image.stem for item in part]):
                    print(key, file=sys.stderr)
                    results.put(key, score(segmenter, part, condition))
    text = table(results, wanted, options)
    (options.out / "robustness.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
