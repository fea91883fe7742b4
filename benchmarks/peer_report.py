"""Scores of many methods on the same images: Markdown tables, JSON and pictures.

Used by `compare_peers.py`.
"""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from paired import paired_difference
from PIL import Image

from napari_dinocell.core.evaluation import TITLES, ScoredImage, summarize
from napari_dinocell.core.metrics import pool
from napari_dinocell.core.overlay import overlay

mpl.use("Agg")
from matplotlib import pyplot as plt

COLUMNS = ("op_csb", "seg", "det", "ap50", "ap75", "f1_50", "pq")
DIFFERENCES = ("op_csb", "ap50")
PUBLISHED = Path(__file__).resolve().parent / "peers" / "published.json"
WINDOW = 200


@dataclass(frozen=True)
class Scored:
    """A method on the images of one set.

    Attributes
    ----------
    set_name, method : str
    ours : bool
    images : list of ScoredImage
        In the same order for every method.
    peak_bytes : int
    """

    set_name: str
    method: str
    ours: bool
    images: list[ScoredImage]
    peak_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Scores, intervals, pace and memory as a plain dict."""
        result = summarize(self.images).to_json()
        return {
            "set": self.set_name,
            "method": self.method,
            **result["sets"][self.set_name],
            "median_seconds": median(image.seconds for image in self.images),
            "peak_bytes": self.peak_bytes,
            "images": result["images"],
        }


def markdown(results: Sequence[Scored], not_run: Mapping[str, str], title: str) -> str:
    """All tables of the comparison."""
    parts = [f"# {title}", _scores(results), "## Ours minus the peer", _differences(results)]
    if not_run:
        lines = [f"- {method}: not run: {why}" for method, why in not_run.items()]
        parts += ["## Not run", "\n".join(lines)]
    parts += [
        "## Published by their authors",
        "On other images, with other evaluators: not comparable with the table above.",
        _published(),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.3f}"


def _scores(results: Sequence[Scored]) -> str:
    rows = []
    for result in results:
        row = result.to_json()
        low, high = row["intervals"]["ap50"]
        rows.append(
            [
                result.set_name,
                f"**{result.method}**" if result.ours else result.method,
                f"{row['n_images']} / {row['n_true']}",
                *(_number(row[name]) for name in COLUMNS),
                "" if low is None else f"{low:.3f}-{high:.3f}",
                f"{row['median_seconds']:.2f}",
                f"{result.peak_bytes / 1e6:.0f}",
            ]
        )
    titles = [TITLES[name] for name in COLUMNS]
    head = ["set", "method", "images / cells", *titles, "AP50 95 %", "s/image", "peak MB"]
    return _table(head, rows)


def _differences(results: Sequence[Scored]) -> str:
    rows = []
    for one, other in _pairs(results):
        scores = ([image.score for image in result.images] for result in (one, other))
        first, second = scores
        cells = [str(paired_difference(first, second, name)) for name in DIFFERENCES]
        rows.append([one.set_name, one.method, other.method, *cells])
    head = ["set", "ours", "peer", *(f"{TITLES[name]} (95 %)" for name in DIFFERENCES)]
    return _table(head, rows) if rows else "Nothing to compare."


def _pairs(results: Sequence[Scored]) -> Iterator[tuple[Scored, Scored]]:
    for one in results:
        for other in results:
            if one.ours and not other.ours and one.set_name == other.set_name:
                yield one, other


def _published() -> str:
    rows = [
        [
            row["set"],
            row["method"],
            _number((row["seg"] + row["det"]) / 2),
            _number(row["seg"]),
            _number(row["det"]),
            row["source"],
        ]
        for row in json.loads(PUBLISHED.read_text(encoding="utf-8"))
    ]
    return _table(["set", "method", "OP_CSB", "SEG", "DET", "source"], rows)


def chosen(images: Sequence[ScoredImage]) -> dict[str, int]:
    """Positions of the best, median and worst image by AP50; fewer where there are fewer."""
    order = sorted(
        (i for i, image in enumerate(images) if image.score.n_true),
        key=lambda i: (pool([images[i].score]).ap50, images[i].name),
    )
    places = {"best": order[-1:], "median": order[len(order) // 2 :][:1], "worst": order[:1]}
    found: dict[str, int] = {}
    for name, place in places.items():
        if place and place[0] not in found.values():
            found[name] = place[0]
    return found


def picture(
    path: Path,
    planes: Sequence[npt.NDArray[Any]],
    columns: Mapping[str, Sequence[npt.NDArray[np.integer]]],
    scored: Mapping[str, Sequence[ScoredImage]],
    rows: Mapping[str, int],
) -> None:
    """Draw the outlines of each method on the chosen images, side by side.

    Parameters
    ----------
    path : Path
        PNG.
    planes : sequence of arrays
        Images (Y, X) or (Y, X, 3) of the set.
    columns : dict of str to sequence of (Y, X) int arrays
        Labels by method, the truth among them.
    scored : dict of str to sequence of ScoredImage
        By method; what has no scores gets none in its title.
    rows : dict of str to int
        Title and position of each image to show.
    """
    shape = (len(rows), len(columns))
    figure, axes = plt.subplots(
        *shape, figsize=(2.5 * shape[1], 2.75 * shape[0]), squeeze=False, layout="constrained"
    )
    for line, (title, index) in zip(axes, rows.items(), strict=True):
        window = _window(planes[index].shape)
        for axis, (method, labels) in zip(line, columns.items(), strict=True):
            axis.imshow(overlay(planes[index][window], labels[index][window]))
            axis.set_xticks([])
            axis.set_yticks([])
            score = ""
            if method in scored:
                score = f"\nAP50 {_number(pool([scored[method][index].score]).ap50)}"
            axis.set_title(method + score, fontsize=8)
        name = next(iter(scored.values()))[index].name
        line[0].set_ylabel(f"{title}: {name}", fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    plt.close(figure)
    # Gray images and a few bright colors: a palette makes the file five times smaller.
    Image.open(drawn).convert("RGB").quantize(
        method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    ).save(path, optimize=True)


def _window(shape: Sequence[int]) -> tuple[slice, slice]:
    """The middle of an image, small enough for outlines of one pixel to be seen."""
    sides = [min(length, WINDOW) for length in shape[:2]]
    starts = [(length - side) // 2 for length, side in zip(shape, sides, strict=False)]
    rows, columns = (slice(a, a + side) for a, side in zip(starts, sides, strict=True))
    return rows, columns
