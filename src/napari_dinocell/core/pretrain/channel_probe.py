"""How well cells are segmented from each channel, by one decoder trained on all of them.

For fields that have labels. Folds go over fields, so that no field is scored by a decoder that
has seen it. A decoder per channel would hide what is asked here: whether one works on any channel.
"""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tifffile
import torch

from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.probe import train_and_score
from napari_dinocell.core.stream.fields import Field
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.substitutes import Substitutes
from napari_dinocell.core.training.data import (
    LabeledDataset,
    LabeledImage,
    instance_areas,
    with_areas,
)
from napari_dinocell.core.training.decode import read_labels

_LABEL_SUFFIXES = (".png", ".tif", ".tiff")


@dataclass(frozen=True)
class ChannelScores:
    """OP_CSB by channel, each a mean over folds.

    Attributes
    ----------
    per_channel : dict of str to float
    """

    per_channel: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over channels."""
        return statistics.fmean(self.per_channel.values())

    @property
    def spread(self) -> float:
        """Best minus worst channel; small may also mean equally bad, so look at the mean first."""
        return max(self.per_channel.values()) - min(self.per_channel.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value:.3f}" for name, value in self.per_channel.items())
        deviation = statistics.pstdev(self.per_channel.values())
        return (
            f"OP_CSB by channel: {parts}; mean {self.mean:.3f}, standard deviation "
            f"{deviation:.3f}, best minus worst {self.spread:.3f}"
        )


def channel_probe(
    backbone: VisionTransformer,
    fields: Manifest,
    labels: Path,
    source: SourceSettings,
    device: torch.device,
    *,
    steps: int = 300,
    batch: int = 8,
    n_folds: int = 2,
    crop: int = 128,
    seed: int = 0,
) -> ChannelScores:
    """Train on all channels of some fields, score each channel of the others.

    Parameters
    ----------
    fields : Manifest
        Those without a file of labels are left out.
    labels : Path
        Folder with one label image per field: its stem is the field's site, or ends with
        ``_`` and the site.
    steps, batch, crop, seed
        As in `probe`.
    n_folds : int
        At most as many as there are labeled fields.

    Raises
    ------
    ValueError
        If fewer than two fields have labels, or one that has cannot be read.
    """
    found = _label_files(fields, labels)
    if len(found) < 2:
        raise ValueError(
            f"{len(found)} of {len(fields)} fields have labels in {labels}; give at least two, "
            "named as the fields."
        )
    reader = source.open(fields, seed=0)
    scores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            items = [
                item
                for row, path in found.items()
                for item in _planes(_read(reader, fields[row], row), path, folder)
            ]
        finally:
            reader.stop()
        groups = sorted({item.group for item in items})
        n_folds = min(n_folds, len(groups))
        for fold in range(n_folds):
            tested = set(groups[fold::n_folds])
            result = train_and_score(
                backbone,
                LabeledDataset(item for item in items if item.group not in tested),
                LabeledDataset(item for item in items if item.group in tested),
                device,
                steps=steps,
                batch=batch,
                crop=crop,
                seed=seed,
            )
            for name, score in result.items():
                scores.setdefault(name, []).append(score.op_csb)
    return ChannelScores({name: statistics.fmean(values) for name, values in scores.items()})


def _label_files(fields: Manifest, labels: Path) -> dict[int, Path]:
    """Label file by row, for the fields that have one."""
    if not labels.is_dir():
        raise FileNotFoundError(f"There is no folder of labels {labels}.")
    files = [path for path in labels.iterdir() if path.suffix.lower() in _LABEL_SUFFIXES]
    found: dict[int, Path] = {}
    for row, record in enumerate(fields):
        for path in files:
            if path.stem == record.site or path.stem.endswith(f"_{record.site}"):
                if path in found.values() or row in found:
                    raise ValueError(
                        f"The labels {path.name} fit several fields, or several labels fit field "
                        f"{record.id}; give the fields of one folder."
                    )
                found[row] = path
    return found


def _read(reader: Substitutes, record: FieldRecord, row: int) -> Field:
    """The field that the labels are of, and no other in its place."""
    field = reader.read(row)
    if field.record.id != record.id:
        raise ValueError(f"Field {record.id} cannot be read; take its labels out.")
    return field


def _planes(field: Field, labels: Path, folder: str) -> list[LabeledImage]:
    """One labeled image per channel, written to `folder`; its set is the channel."""
    areas = instance_areas(read_labels(labels))
    items = []
    for index, (plane, name) in enumerate(zip(field.channels, field.record.channels, strict=True)):
        path = Path(folder) / f"{labels.stem}_{index}.tif"
        tifffile.imwrite(path, plane, photometric="minisblack")
        items.append(with_areas(LabeledImage(name, labels.stem, path, labels), areas))
    return items
