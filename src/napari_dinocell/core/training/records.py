"""Training crops by their number, with what a frozen encoder or a teacher makes of them.

Crop i of a run is a function of (seed, i) alone. A run with a pool draws i from a finite set, so
that whatever does not change (pixels, frozen features, the teacher's map) is computed once and read
from a folder afterwards.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_dinocell.core.model.files import tensors_sha256
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.config import CropSettings
from napari_dinocell.core.training.crops import draw_crop
from napari_dinocell.core.training.data import UNKNOWN, LabeledDataset

Record = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Crops of one step on the training device."""

    indices: tuple[int, ...]
    image: Tensor  # (B, 3, Y, X) float32
    distance: Tensor  # (B, 1, Y, X) float32
    labels: Tensor  # (B, Y, X) int32, UNKNOWN where nobody annotated
    features: list[Tensor] | None  # (B, D, y, x) of the frozen encoder
    teacher: Tensor | None  # (B, 1, Y, X) the teacher's map


def sample_index(position: int, *, pool: int, seed: int) -> int:
    """Crop number at a position of the run's order: every crop of the pool once per epoch.

    A function of its arguments alone, so that any restart and any number of processes see the same
    order.
    """
    if pool == 0:
        return position
    epoch, place = divmod(position, pool)
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(pool)
    return int(order[place])


class CropRecords:
    """Crops and what is frozen about them, computed once and kept in a folder.

    Parameters
    ----------
    dataset : LabeledDataset
        Images to cut from.
    settings, augment
        How crops are cut and changed.
    seed : int
        Seed of the crops.
    encoder : DINOCell, optional
        Network whose encoder is frozen; its features are kept with each crop.
    teacher : DINOCell, optional
        Network whose map is kept with each crop.
    device, dtype
        Where and in which precision the frozen networks run.
    share : float
        Part of the folder's byte bound that this process may fill.

    Attributes
    ----------
    dataset : LabeledDataset
        As given.
    """

    def __init__(
        self,
        dataset: LabeledDataset,
        settings: CropSettings,
        augment: AugmentConfig,
        *,
        seed: int,
        encoder: DINOCell | None = None,
        teacher: DINOCell | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        share: float = 1.0,
    ) -> None:
        self.dataset, self._settings, self._augment, self._seed = dataset, settings, augment, seed
        self._encoder, self._teacher = encoder, teacher
        self._device, self._dtype = device or torch.device("cpu"), dtype
        self._folder: Path | None = None
        if settings.cache is not None:
            self._folder = Path(settings.cache) / self._key()
            self._folder.mkdir(parents=True, exist_ok=True)
            held = sum(f.stat().st_size for f in self._folder.glob("*.safetensors"))
            self._room = share * (settings.cache_gb * 1e9 - held)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return the crops of the given numbers on the device."""
        records = [self._read(index) for index in indices]
        absent = [i for i, record in enumerate(records) if record is None]
        if absent:
            for i, made in zip(absent, self._make([indices[i] for i in absent]), strict=True):
                records[i] = made
                self._write(indices[i], made)
        whole = [record for record in records if record is not None]

        def stacked(name: str) -> Tensor:
            return torch.stack([record[name] for record in whole]).to(self._device)

        names = sorted(name for name in whole[0] if name.startswith("feature"))
        return Batch(
            indices=tuple(indices),
            image=stacked("image").float(),
            distance=stacked("distance").float(),
            labels=stacked("labels"),
            features=[stacked(name) for name in names] or None,
            teacher=stacked("teacher").float() if self._teacher is not None else None,
        )

    @torch.no_grad()
    def _make(self, indices: Sequence[int]) -> list[Record]:
        records: list[Record] = []
        for index in indices:
            crop = draw_crop(
                self.dataset,
                index,
                seed=self._seed,
                size=self._settings.size,
                diameter=self._settings.diameter,
                lift=self._settings.lift,
                augment=self._augment,
                color=self._settings.color,
            )
            records.append(
                {
                    "image": torch.from_numpy(np.array(crop.image)).half(),
                    "distance": torch.from_numpy(crop.distance).half()[None],
                    "labels": torch.from_numpy(np.where(crop.weight > 0, crop.labels, UNKNOWN)),
                }
            )
        # Networks see the half-precision pixels that are stored, so that a crop read back equals one made.
        images = torch.stack([record["image"] for record in records]).float().to(self._device)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            if self._encoder is not None:
                for level, values in enumerate(self._encoder.features(images)):
                    for record, value in zip(records, values, strict=True):
                        record[f"feature{level}"] = value.half().cpu().contiguous()
            if self._teacher is not None:
                for record, value in zip(records, self._teacher(images), strict=True):
                    record["teacher"] = value.half().cpu().contiguous()
        return records

    def _read(self, index: int) -> Record | None:
        if self._folder is None:
            return None
        try:
            record: Record = load_file(self._path(index))
        except (FileNotFoundError, SafetensorError):
            return None
        return record

    def _write(self, index: int, record: Record) -> None:
        if self._folder is None:
            return
        size = sum(value.nbytes for value in record.values())
        if size > self._room:
            return
        path = self._path(index)
        part = path.with_suffix(f".{os.getpid()}.part")
        save_file(record, part)
        part.replace(path)
        self._room -= size

    def _path(self, index: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{index:07d}.safetensors"

    def _key(self) -> str:
        """Hash of all that a record depends on."""
        parts = {
            "crops": self._settings.model_dump(mode="json", exclude={"pool", "cache", "cache_gb"}),
            "augment": self._augment.model_dump(mode="json"),
            "seed": self._seed,
            "data": dataset_hash(self.dataset),
            "encoder": None
            if self._encoder is None
            else tensors_sha256(self._encoder.encoder.state_dict()),
            "teacher": None
            if self._teacher is None
            else tensors_sha256(self._teacher.state_dict()),
            "dtype": str(self._dtype),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def dataset_hash(dataset: LabeledDataset) -> str:
    """SHA-256 over sets, file names, sizes and the chances of being drawn."""
    digest = hashlib.sha256(dataset.probabilities.tobytes())
    for item in dataset:
        digest.update(f"{item.set_name}/{item.image.name}/{item.image.stat().st_size}".encode())
    return digest.hexdigest()
