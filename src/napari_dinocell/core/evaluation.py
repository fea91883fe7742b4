"""Scores of many images, per data set and pooled, as JSON and as a table."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from napari_dinocell.core.metrics import ImageScore, SetScore, bootstrap, pool

TITLES = {
    "seg": "SEG",
    "det": "DET",
    "op_csb": "OP_CSB",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap90": "AP90",
    "f1_50": "F1",
    "pq": "PQ",
}
"""Scores of the table by their names in the field. AP is TP / (TP + FP + FN), F1 at IoU 0.5."""


@dataclass(frozen=True)
class ScoredImage:
    """Score of one image, the data set it is counted in, and how long its prediction took (s)."""

    name: str
    set_name: str
    score: ImageScore
    seconds: float = math.nan


@dataclass(frozen=True)
class SetResult:
    """Pooled scores of a set, their bootstrap intervals, and seconds per image (NaN: unknown)."""

    score: SetScore
    intervals: dict[str, tuple[float, float]]
    seconds_per_image: float


@dataclass(frozen=True)
class Evaluation:
    """Results per data set and over all images.

    Attributes
    ----------
    sets : dict of str to SetResult
        By name of the set, in the order of first appearance.
    pooled : SetResult
        Over all images: every reference cell counts once.
    images : tuple of ScoredImage
        In the order given.
    level : float
        Coverage of the intervals.
    """

    sets: dict[str, SetResult]
    pooled: SetResult
    images: tuple[ScoredImage, ...]
    level: float

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `json.dumps`; undefined scores are None."""
        images = [
            {"name": i.name, "set": i.set_name, **_scores_json(pool([i.score]))}
            for i in self.images
        ]
        return {
            "interval_level": self.level,
            "sets": {name: _set_json(result) for name, result in self.sets.items()},
            "pooled": _set_json(self.pooled),
            "images": images,
        }

    def table(self, title: str | None = None) -> Table:
        """One column per set and one for all images; scores with their intervals below."""
        columns = list(self.sets.items())
        if len(columns) != 1:
            columns.append(("all", self.pooled))
        notes = [f"{name}: {result.score.note}" for name, result in columns if result.score.note]
        table = Table(title=title, caption="\n".join(notes) or None)
        table.add_column("")
        for name, _ in columns:
            table.add_column(name, justify="right")
        for heading, field in (("images", "n_images"), ("cells", "n_true"), ("found", "n_pred")):
            table.add_row(heading, *(str(getattr(result.score, field)) for _, result in columns))
        table.add_section()
        for name, heading in TITLES.items():
            table.add_row(heading, *(_cell(result, name) for _, result in columns))
        if not math.isnan(self.pooled.seconds_per_image):
            table.add_section()
            table.add_row("s/image", *(f"{result.seconds_per_image:.2f}" for _, result in columns))
        return table

    def image_table(self) -> Table:
        """One row per image, in the order given."""
        table = Table()
        table.add_column("image", overflow="fold")
        for heading in ("set", "cells", "found", *TITLES.values()):
            table.add_column(heading, justify="left" if heading == "set" else "right")
        for image in self.images:
            score = pool([image.score])
            values = (getattr(score, name) for name in TITLES)
            table.add_row(
                image.name,
                image.set_name,
                *(str(n) for n in (score.n_true, score.n_pred)),
                *("" if math.isnan(value) else f"{value:.3f}" for value in values),
            )
        return table


def summarize(images: Sequence[ScoredImage], *, level: float = 0.95, seed: int = 0) -> Evaluation:
    """Pool images per set and over all sets, with seeded bootstrap intervals over images."""
    by_set: dict[str, list[ScoredImage]] = {}
    for image in images:
        by_set.setdefault(image.set_name, []).append(image)
    return Evaluation(
        sets={name: _result(members, level, seed) for name, members in by_set.items()},
        pooled=_result(images, level, seed),
        images=tuple(images),
        level=level,
    )


def _result(images: Sequence[ScoredImage], level: float, seed: int) -> SetResult:
    scores = [image.score for image in images]
    seconds = sum(image.seconds for image in images) / len(images) if images else math.nan
    return SetResult(pool(scores), bootstrap(scores, level=level, seed=seed), seconds)


def _set_json(result: SetResult) -> dict[str, Any]:
    values = _scores_json(result.score)
    values["intervals"] = {
        name: [_finite(low), _finite(high)] for name, (low, high) in result.intervals.items()
    }
    values["seconds_per_image"] = _finite(result.seconds_per_image)
    return values


def _scores_json(score: SetScore) -> dict[str, Any]:
    return {name: _finite(value) for name, value in asdict(score).items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(result: SetResult, name: str) -> str:
    value = getattr(result.score, name)
    if math.isnan(value):
        return "undefined"
    low, high = result.intervals[name]
    spread = "" if math.isnan(low) else f"\n{low:.3f}-{high:.3f}"
    return f"{value:.3f}{spread}"
