"""Tasks of meta-training: each is one group (field, movie, specimen) of a set."""

from collections.abc import Sequence

import numpy as np
import torch

from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.config import CropSettings
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.records import Batch, CropRecords

_CACHE_BYTES = 64 << 20  # of decoded images of one task


class TaskFamily:
    """The groups of a data set, each with crops of its own.

    A task is drawn by its set's weight, and within the set every group is as likely. Which task a
    step sees, and which crops, is a function of (seed, step) alone.

    Parameters
    ----------
    dataset : LabeledDataset
    crops, augment
        How crops are cut and changed.
    network : DINOCell
        Its encoder is frozen; crops come with its features.
    seed : int

    Raises
    ------
    ValueError
        If crops are to be cached: every task has new ones.
    """

    def __init__(
        self,
        dataset: LabeledDataset,
        crops: CropSettings,
        augment: AugmentConfig,
        network: DINOCell,
        *,
        seed: int,
    ) -> None:
        if crops.pool:
            raise ValueError("crops.pool is set; crops of tasks are new, leave pool and cache out.")
        self._dataset, self._crops, self._augment = dataset, crops, augment
        self._network, self._seed = network, seed
        self._members: dict[str, dict[str, list[int]]] = {}
        for index, item in enumerate(dataset):
            groups = self._members.setdefault(item.set_name, {})
            groups.setdefault(item.group, []).append(index)
        self._records: dict[tuple[str, str], CropRecords] = {}

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def draw(self, step: int) -> tuple[str, str]:
        """Set and group of a step."""
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, step]))
        names = sorted(self._members)
        weights = np.array([self._dataset.set_weights[name] for name in names])
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        return name, str(rng.choice(sorted(self._members[name])))

    def batches(self, task: tuple[str, str], step: int, n: int, size: int) -> list[Batch]:
        """`n` batches of `size` new crops of a task."""
        first = step * n * size
        records = self._records_of(task)
        return [
            records.batch(range(first + size * number, first + size * (number + 1)))
            for number in range(n)
        ]

    def _records_of(self, task: tuple[str, str]) -> CropRecords:
        if task not in self._records:
            members: Sequence[int] = self._members[task[0]][task[1]]
            self._records[task] = CropRecords(
                LabeledDataset((self._dataset[i] for i in members), cache_bytes=_CACHE_BYTES),
                self._crops,
                self._augment,
                seed=self._seed,
                encoder=self._network,
                device=_device(self._network),
            )
        return self._records[task]


def _device(network: DINOCell) -> torch.device:
    return next(network.parameters()).device
