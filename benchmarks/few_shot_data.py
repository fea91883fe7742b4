"""Images of the few-shot benchmark: who is annotated, who judges, and what is annotated.

Used by `few_shot.py`.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.adapt import Example
from napari_dinocell.core.images import Image
from napari_dinocell.core.training.data import LabeledDataset, LabeledImage
from napari_dinocell.core.training.readers import read_index

Kind = Literal["cells", "images"]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shots:
    """How much is annotated: `count` cells, or so many whole images."""

    kind: Kind
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shots":
        """From "5" (cells) or "5i" (whole images)."""
        is_images = text.endswith("i")
        number = text.removesuffix("i")
        if not number.isdigit() or int(number) < 1:
            raise ValueError(
                f"{text!r} is no number of annotations; give 5 for five cells, 5i for five images."
            )
        return cls("images" if is_images else "cells", int(number))

    def __str__(self) -> str:
        noun = self.kind.removesuffix("s") if self.count == 1 else self.kind
        return f"{self.count} {noun}"


@dataclass(frozen=True, eq=False)
class Division:
    """Indices of images of a set, in random order: those to annotate, and those that judge."""

    support: list[int]
    query: list[int]


def read_set(folder: Path, name: str) -> LabeledDataset:
    """All images of a set with at least one cell, whatever their split.

    This benchmark is the one place in which images of a test split may be annotated: nothing that
    is made of them is shipped.
    """
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        present = {row["split"] for row in csv.DictReader(file) if row["set"] == name}
    if not present:
        raise ValueError(f"{folder / 'index.csv'} has no set named {name}; correct the name.")
    items: list[LabeledImage] = []
    for split in SPLITS:
        if split in present:
            items += read_index(folder, split, sets=[name], for_training=False)
    return LabeledDataset([item for item in items if item.n_instances])


def divide(images: Sequence[LabeledImage], n_queries: int, seed: int, by: str) -> Division:
    """Draw the images that judge; the others may be annotated.

    Parameters
    ----------
    images : sequence of LabeledImage
        Of one set.
    n_queries : int
        At most so many images judge.
    seed : int
    by : "group" or "image"
        What support and query have not in common. A third of the groups (at least one) is held
        back to judge; the images of one of them take turns with those of the others.

    Raises
    ------
    ValueError
        If there are fewer than two groups.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[int]] = {}
    for index in rng.permutation(len(images)):
        key = images[int(index)].group if by == "group" else str(images[int(index)].image)
        groups.setdefault(key, []).append(int(index))
    if len(groups) < 2:
        raise ValueError(
            f"{images[0].set_name} has one {by} only; nothing would be left to judge by."
        )
    names = list(groups)
    rng.shuffle(names)
    n_held = max(1, min(n_queries, len(names) // 3))
    held = [groups[name] for name in names[:n_held]]
    longest = max(map(len, held))
    turns = [group[place] for place in range(longest) for group in held if place < len(group)]
    support = [index for name in names[n_held:] for index in groups[name]]
    rng.shuffle(support)
    return Division(support, turns[:n_queries])


def annotate_shots(
    dataset: LabeledDataset, support: Sequence[int], shots: Shots, seed: int
) -> list[Example]:
    """Annotate as much as `shots` says; more of the same seed contains less of it.

    Cells are drawn at random from the first image, and from the next where it has no more.

    Raises
    ------
    ValueError
        If there is not as much to annotate.
    """
    if shots.kind == "images":
        if len(support) < shots.count:
            raise ValueError(f"There are {len(support)} images to annotate, not {shots.count}.")
        return [_example(dataset, index, None) for index in support[: shots.count]]
    examples, left = [], shots.count
    for index in support:
        if not left:
            break
        ids = np.unique(dataset.read(index)[1])
        order = np.random.default_rng([seed, index]).permutation(ids[ids > 0])
        examples.append(_example(dataset, index, order[:left]))
        left -= min(left, len(order))
    if left:
        raise ValueError(f"There are {shots.count - left} cells to annotate, not {shots.count}.")
    return examples


def _example(dataset: LabeledDataset, index: int, cells: npt.NDArray[np.integer] | None) -> Example:
    """An image with some of its cells, or all of it."""
    plane, labels = dataset.read(index)
    item = dataset[index]
    complete = np.ones(labels.shape, bool) if cells is None else None
    kept = labels if cells is None else np.where(np.isin(labels, cells), labels, 0)
    return Example(
        Image(plane, "YX" if plane.ndim == 2 else "YXS"),
        np.maximum(kept, 0),
        complete_regions=complete,
        diameter=item.diameter,
        name=item.image.stem,
    )
