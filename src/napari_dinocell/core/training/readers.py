"""Readers: the places labeled data comes from, each turned into a `LabeledDataset`."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_dinocell.core.project_file import is_project
from napari_dinocell.core.training.challenge import Truth, read_challenge
from napari_dinocell.core.training.coco import read_coco
from napari_dinocell.core.training.data import (
    LabeledDataset,
    LabeledImage,
    instance_areas,
    with_areas,
)
from napari_dinocell.core.training.decode import NoLabels, read_labels
from napari_dinocell.core.training.folders import read_folder
from napari_dinocell.core.training.projects import read_project


def read_labeled(
    source: str | Path,
    split: str = "train",
    *,
    weights: Mapping[str, float] | None = None,
    sets: Collection[str] | None = None,
) -> LabeledDataset:
    """Open labeled data of any kind.

    Parameters
    ----------
    source : str or Path
        A folder with an index.csv, an annotation project, a YAML manifest, a COCO file as
        LIVECell's (.json; its images lie in folders beside it), a data set of the Cell Tracking
        Challenge, or a folder of images and labels (see `read_folder`).
    split : str
        Which rows of an index.csv to take; the other kinds know no splits.
    weights, sets : optional
        See `LabeledDataset` and `read_index`.

    Raises
    ------
    FileNotFoundError, ValueError
        There is nothing at `source`, or it holds nothing of the above.
    """
    source = Path(source)
    if (source / "index.csv").is_file():
        return read_index(source, split, sets=sets, weights=weights)
    if is_project(source):
        dataset = LabeledDataset(read_project(source))
    elif source.suffix.lower() in {".yaml", ".yml"}:
        dataset = read_manifest(source)
    elif source.suffix.lower() == ".json":
        dataset = LabeledDataset(read_coco(source, source.parent))
    elif any(source.glob("[0-9][0-9]_[GS]T")):
        dataset = LabeledDataset(read_challenge(source))
    else:
        dataset = LabeledDataset(read_folder(source))
    absent = sorted(set(sets or ()) - set(dataset.set_names))
    if absent:
        raise ValueError(
            f"{source} has no set named {', '.join(absent)}; it has {', '.join(dataset.set_names)}."
        )
    if sets is not None:
        dataset = dataset.subset(i for i, item in enumerate(dataset) if item.set_name in sets)
    return LabeledDataset(dataset, {**dataset.set_weights, **(weights or {})})


class _Source(BaseModel):
    """What all sources of a manifest have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str


class IndexSource(_Source):
    """A folder with an index.csv."""

    kind: Literal["index"]
    split: str = "train"
    sets: list[str] | None = None
    weights: dict[str, float] | None = None

    def images(self, base: Path) -> LabeledDataset:
        """Return the images and the weights of the sets."""
        return read_index(
            base / self.path, self.split, sets=self.sets, weights=self.weights, for_training=True
        )


class _OneSet(_Source):
    """A source that is one set."""

    weight: float | None = Field(None, gt=0, description="see LabeledDataset")


class FolderSource(_OneSet):
    """Images and labels in one folder, Cellpose's included."""

    kind: Literal["folder", "cellpose"]
    name: str | None = None
    group: str | None = None
    axes: str | None = None

    def images(self, base: Path) -> LabeledDataset:
        """Return the images and the weight of the set."""
        items = read_folder(base / self.path, name=self.name, group=self.group, axes=self.axes)
        return _one_set(items, self.weight)


class CocoSource(_OneSet):
    """A COCO file, as LIVECell's."""

    kind: Literal["coco"]
    image_folder: str
    name: str = "livecell"
    group: str | None = None

    def images(self, base: Path) -> LabeledDataset:
        """Return the images and the weight of the set."""
        items = read_coco(
            base / self.path, base / self.image_folder, name=self.name, group=self.group
        )
        return _one_set(items, self.weight)


class ChallengeSource(_OneSet):
    """A data set of the Cell Tracking Challenge."""

    kind: Literal["challenge"]
    name: str | None = None
    truth: Truth = "best"

    def images(self, base: Path) -> LabeledDataset:
        """Return the images and the weight of the set."""
        items = read_challenge(base / self.path, name=self.name, truth=self.truth)
        return _one_set(items, self.weight)


class Manifest(BaseModel):
    """Several sources that are trained on together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: list[
        Annotated[
            IndexSource | FolderSource | CocoSource | ChallengeSource, Field(discriminator="kind")
        ]
    ] = Field(min_length=1)


def read_manifest(path: str | Path) -> LabeledDataset:
    """Read a YAML manifest that mixes sources.

    Paths are relative to the manifest. For example::

        sources:
          - {kind: index, path: data, split: train, weights: {phase: 2.0}}
          - {kind: folder, path: my_cells, group: "(.+)_tile", weight: 1.0}
          - {kind: coco, path: livecell_coco_train.json, image_folder: images}
          - {kind: challenge, path: DIC-C2DH-HeLa, truth: gold}

    Parameters
    ----------
    path : str or Path
        YAML with the key `sources`.

    Returns
    -------
    LabeledDataset
        Sets without a weight get the default of `LabeledDataset`.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file, or it is no such manifest; and what the readers of its sources raise.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no manifest {path}.")
    try:
        manifest = Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML ({' '.join(str(error).split())}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {place or 'manifest'}: {first['msg']}.") from error
    parts = [source.images(path.parent) for source in manifest.sources]
    weights: dict[str, float] = {}
    for part in parts:
        repeated = sorted(weights.keys() & part.set_names)
        if repeated:
            raise ValueError(
                f"{path} has two sources with the set {', '.join(repeated)}; give one a name."
            )
        weights |= part.set_weights
    return LabeledDataset([item for part in parts for item in part], weights)


def _one_set(items: list[LabeledImage], weight: float | None) -> LabeledDataset:
    return LabeledDataset(items, None if weight is None else {items[0].set_name: weight})


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
        relative to the folder) and, where the license matters, train_allowed (yes or no). A row of
        the split "train" without a label names an image that nobody annotated; its column diameter
        (px) may be empty, too.
    split : str
        Value of the column `split` to keep.
    sets : collection of str, optional
        Sets to keep, all by default.
    weights : mapping of str to float, optional
        See `LabeledDataset`.
    for_training : bool, optional
        Keep only rows with train_allowed = yes, and refuse a set in `sets` that has others.
        By default: true for the split "train".
    cache_bytes : int
        See `LabeledDataset`.

    Raises
    ------
    FileNotFoundError, ValueError
        No index, a column is missing, no such split or set, a set that must not be trained on, or
        a group that is in two splits.
    """
    folder = Path(folder)
    path = folder / "index.csv"
    rows = [row for row in _rows(path) if sets is None or row["set"] in sets]
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
        raise ValueError(f"{path} has no rows for the split {split}; check split and sets.")
    return LabeledDataset([_item(folder, row) for row in rows], weights, cache_bytes)


def _item(folder: Path, row: dict[str, str]) -> LabeledImage:
    image, labels = folder / row["image"], folder / row["label"]
    if row["label"]:
        item = LabeledImage(row["set"], row["group"], image, labels)
        return with_areas(item, instance_areas(read_labels(labels)))
    if row["split"] != "train":
        raise ValueError(
            f"{folder / 'index.csv'} has no label for {row['image']} of the split {row['split']}; "
            "images to be scored need labels."
        )
    diameter = float(row.get("diameter") or "nan")
    return LabeledImage(row["set"], row["group"], image, NoLabels(image), diameter)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; give a folder with an index.csv.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = sorted({"set", "split", "image", "label", "group"} - set(rows[0] if rows else ()))
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; add them.")
    splits: dict[str, str] = {}
    for row in rows:
        if splits.setdefault(row["group"], row["split"]) != row["split"]:
            raise ValueError(
                f"{path} has the group {row['group']} in {splits[row['group']]} and in "
                f"{row['split']}; images of one group must stay together."
            )
    return rows
