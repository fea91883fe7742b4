"""Which annotated cells are held out of training, to stop in time and to see whether it helped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.adapt.examples import Annotation
from napari_dinocell.core.adapt.windows import Unit

LEAST_CELLS = 3
"""With fewer annotated cells nothing can be verified."""
_SINGLE = 8  # from this many cells on, one held-out part is enough
_N_FOLDS = 3
_PART = 0.25
# More tell hardly more, and each is looked at again and again.
_MOST = 64  # cells, and empty places
_MOST_PATCHES = 12  # of the cells, and of the empty places

Masks = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


def held_out(units: Sequence[Unit], seed: int, home: Mapping[Unit, int]) -> list[frozenset[Unit]]:
    """Parts of the evidence, each held out of one training.

    Fewer than 3 cells: none. Fewer than 8: three parts, so that every cell is held out once.
    Otherwise one part: a quarter of the cells, from 3 to 64, and a quarter of the empty places, at
    most 64; of no more than 24 patches.

    Parameters
    ----------
    units : sequence of Unit
    seed : int
    home : mapping of Unit to int
        Patch that each unit is judged in.
    """
    rng = np.random.default_rng(seed)
    kinds = [[unit for unit in units if unit.is_cell is is_cell] for is_cell in (True, False)]
    for kind in kinds:
        rng.shuffle(kind)
    cells, places = kinds
    if len(cells) < LEAST_CELLS:
        return []
    if len(cells) < _SINGLE:
        return [frozenset(cells[k::_N_FOLDS] + places[k:_MOST:_N_FOLDS]) for k in range(_N_FOLDS)]
    numbers = [min(round(_PART * len(kind)), _MOST) for kind in kinds]
    numbers[0] = max(LEAST_CELLS, numbers[0])
    looked_at: set[int] = set()
    for kind, n in zip(kinds, numbers, strict=True):
        looked_at |= set(list(dict.fromkeys(home[unit] for unit in kind[:n]))[:_MOST_PATCHES])
    part: list[Unit] = []
    for kind, n in zip(kinds, numbers, strict=True):
        part += [unit for unit in kind if home[unit] in looked_at][:n]
    return [frozenset(part)]


def masks(annotation: Annotation, index: int, used: Collection[Unit]) -> Masks:
    """Which cells and empty places of an annotation are among `used`, by id; entry 0 is False."""
    found = np.zeros(annotation.n_cells + 1, bool), np.zeros(annotation.n_empty + 1, bool)
    for unit in used:
        if unit.annotation == index:
            found[0 if unit.is_cell else 1][unit.number] = True
    return found
