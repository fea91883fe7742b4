"""Readers: the layouts in which labeled data comes, each turned into a `LabeledDataset`."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path

from napari_dinocell.core.training.data import (
    LabeledDataset,
    LabeledImage,
    read_labels,
    with_statistics,
)


def read_index(
    folder: str | Path,
    split: str,
    *,
    sets: Collection[str] | None = None,
    weights: Mapping[str, float] | None = None,
    for_training: bool | None = None,
    cache_bytes: int = 1 << 30,
) -> LabeledDataset:
    """Read the images that `folder/index.csv` lists for one split.

    Parameters
    ----------
    folder : str or Path
        Holds `index.csv` with at least the columns set, split, image, label, group (paths are
        relative to the folder) and, where the licence matters, train_allowed (yes or no).
    split : str
        Value of the column `split` to keep.
    sets : collection of str, optional
        Sets to keep, all by default.
    weights : mapping of str to float, optional
        See `LabeledDataset`.
    for_training : bool, optional
        Keep only rows with train_allowed = yes, and refuse a set in `sets` that has others.
        By default: true for the split "train".

    Raises
    ------
    FileNotFoundError, ValueError
        No index, a column is missing, no such split or set, or a set that must not be trained on.
    """
    folder = Path(folder)
    path = folder / "index.csv"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; give a folder with an index.csv.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    needed = {"set", "split", "image", "label", "group"}
    missing = sorted(needed - set(rows[0] if rows else ()))
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; add them.")
    rows = [row for row in rows if sets is None or row["set"] in sets]
    absent = sorted(set(sets or ()) - {row["set"] for row in rows})
    if absent:
        raise ValueError(f"{path} has no set named {', '.join(absent)}; correct the names.")
    if for_training is None:
        for_training = split == "train"
    if for_training:
        refused = sorted({row["set"] for row in rows if row.get("train_allowed", "yes") != "yes"})
        if refused and sets is not None:
            raise ValueError(
                f"{path} says that {', '.join(refused)} must not be trained on "
                "(train_allowed is not yes); take it out of the sets."
            )
        rows = [row for row in rows if row["set"] not in refused]
    rows = [row for row in rows if row["split"] == split]
    if not rows:
        raise ValueError(
            f"{path} has no rows left for the split {split}; check the split and sets."
        )
    images = []
    for row in rows:
        labels = folder / row["label"]
        item = LabeledImage(row["set"], row["group"], folder / row["image"], labels, float("nan"))
        images.append(with_statistics(item, read_labels(labels)))
    return LabeledDataset(images, weights, cache_bytes)
