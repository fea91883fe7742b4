"""Which tile of which field a step sees: a function of (seed, batch size, step) and nothing else.

A field is fetched once and gives R tiles. Groups of B / R fields enter one after the other, one
group per step; a group's R tiles are shown `spread` steps apart. So each step needs the same
number of new fields, and never shows one field twice. Over an epoch every field is shown R times;
the less than B / R fields that do not fill a group are left out, other ones in each epoch.

Neighbouring fields are fetched together: whole shards (64 fields of one plate) are shuffled, then
the fields inside a window of shards. Any step is computed in constant time, so a run that goes on
needs no replay.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Draw(NamedTuple):
    """One sample of a step.

    Attributes
    ----------
    sample : int
        Number of the sample in the run: step * batch + slot. Keys all randomness of the sample.
    field : int
        Row of the manifest.
    epoch : int
    tile : int
        Which of the field's R tiles of this epoch.
    last_tile : int
        The last of the consecutive tiles of this field that come while it is kept.
    """

    sample: int
    field: int
    epoch: int
    tile: int
    last_tile: int


class Order:
    """The order of a run.

    Slot p of a step is tile p % R of the group's field p // R. A rank that takes a contiguous slice
    of slots therefore keeps its fields from step to step; where its share is no multiple of R, two
    ranks fetch the same field.

    Parameters
    ----------
    shard_sizes : sequence of int
        Fields per shard, in the manifest's order.
    seed : int
    batch : int
        Samples per step, over all ranks: B.
    tiles_per_field : int
        R; must divide B. More tiles need less bandwidth and give less variety.
    spread : int
        Steps between two tiles of one field. Smaller if an epoch is short.
    window : int
        Shards that are shuffled into each other.

    Raises
    ------
    ValueError
        If R does not divide B, or there are fewer fields than B.
    """

    def __init__(
        self,
        shard_sizes: Sequence[int],
        *,
        seed: int,
        batch: int,
        tiles_per_field: int = 8,
        spread: int = 8,
        window: int = 32,
    ) -> None:
        if min(batch, tiles_per_field, spread, window) < 1:
            raise ValueError("Batch, tiles per field, spread and window must be at least 1.")
        if batch % tiles_per_field:
            raise ValueError(
                f"A batch of {batch} cannot be made of fields with {tiles_per_field} tiles each; "
                "choose a number of tiles that divides the batch."
            )
        self._sizes = np.asarray(shard_sizes, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        n_fields = int(self._starts[-1])
        if n_fields < batch:
            raise ValueError(
                f"A batch of {batch} different fields cannot be drawn from {n_fields}; "
                "lower the batch or add fields."
            )
        self.batch, self.tiles_per_field, self.n_fields = batch, tiles_per_field, n_fields
        self.seed, self._n_window = seed, window
        self._group = batch // tiles_per_field
        self.steps_per_epoch = n_fields // self._group
        self.spread = min(spread, self.steps_per_epoch // tiles_per_field)
        self._epochs: OrderedDict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = OrderedDict()
        self._windows: OrderedDict[tuple[int, int], NDArray[np.int64]] = OrderedDict()

    @property
    def settings(self) -> dict[str, int]:
        """What the order depends on: a run that goes on must have the same."""
        return {
            "seed": self.seed,
            "batch": self.batch,
            "tiles_per_field": self.tiles_per_field,
            "spread": self.spread,
            "window": self._n_window,
            "n_fields": self.n_fields,
        }

    def step(self, step: int, slots: range | None = None) -> list[Draw]:
        """Samples of one step; all, or those of some consecutive slots."""
        slots = range(self.batch) if slots is None else slots
        epoch, at = divmod(step, self.steps_per_epoch)
        further = (self.steps_per_epoch - 1 - at) // self.spread
        draws = []
        for slot in slots:
            member, tile = divmod(slot, self.tiles_per_field)
            group = (at - tile * self.spread) % self.steps_per_epoch
            field = self._field(epoch, group * self._group + member)
            # Who takes part of a field's slots only does not wait for the tiles of the others.
            of_slots = slots.stop - 1 - member * self.tiles_per_field
            last = min(self.tiles_per_field - 1, tile + further, of_slots)
            draws.append(Draw(step * self.batch + slot, field, epoch, tile, last))
        return draws

    def _field(self, epoch: int, position: int) -> int:
        """Field at a position of the epoch's permutation."""
        _, bounds = self._epoch(epoch)
        window = int(np.searchsorted(bounds, position, side="right")) - 1
        return int(self._window(epoch, window)[position - bounds[window]])

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The epoch's permutation of shards, and the first position of each window."""
        if epoch not in self._epochs:
            rng = np.random.default_rng([self.seed, epoch, 0])
            shards = rng.permutation(len(self._sizes))
            ends = np.cumsum(self._sizes[shards])
            bounds = np.concatenate([[0], ends[self._n_window - 1 : -1 : self._n_window]])
            _remember(self._epochs, epoch, (shards, bounds), 2)
        return self._epochs[epoch]

    def _window(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The shuffled fields of one window of shards."""
        key = epoch, window
        if key not in self._windows:
            shards, _ = self._epoch(epoch)
            chosen = shards[window * self._n_window : (window + 1) * self._n_window]
            fields = [np.arange(self._starts[s], self._starts[s + 1]) for s in chosen]
            rng = np.random.default_rng([self.seed, epoch, 1, window])
            _remember(self._windows, key, rng.permutation(np.concatenate(fields)), 64)
        return self._windows[key]


def rank_slots(batch: int, rank: int, n_ranks: int) -> range:
    """The slice of a step's slots that one of `n_ranks` processes takes.

    Raises
    ------
    ValueError
        If the batch cannot be divided evenly.
    """
    if batch % n_ranks:
        raise ValueError(
            f"A batch of {batch} cannot be shared evenly by {n_ranks} processes; choose a multiple."
        )
    share = batch // n_ranks
    return range(rank * share, (rank + 1) * share)


def _remember(cache: OrderedDict[Any, Any], key: Any, value: Any, n_kept: int) -> None:
    cache[key] = value
    while len(cache) > n_kept:
        cache.popitem(last=False)
