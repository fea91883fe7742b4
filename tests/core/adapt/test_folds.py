from itertools import chain

import pytest

from napari_dinocell.core.adapt import folds
from napari_dinocell.core.adapt.windows import Unit


def units(n_cells, n_empty=0):
    box = (0, 0, 1, 1)
    cells = [Unit(0, n, True, box) for n in range(1, n_cells + 1)]
    return cells + [Unit(0, n, False, box) for n in range(1, n_empty + 1)]


def held_out(units, seed, per_patch=4):
    """Units in their order, so many in each patch."""
    home = {unit: number // per_patch for number, unit in enumerate(units)}
    return folds.held_out(units, seed, home)


@pytest.mark.parametrize("n_cells", [0, 1, 2])
def test_fewer_than_three_cells_cannot_verify(n_cells):
    assert held_out(units(n_cells, 5), 0) == []


@pytest.mark.parametrize("n_cells", range(3, 8))
def test_every_one_of_a_few_cells_is_held_out_once(n_cells):
    all_units = units(n_cells, 4)
    parts = held_out(all_units, 0)
    assert sorted(chain(*parts), key=str) == sorted(all_units, key=str)
    assert all(0 < sum(u.is_cell for u in part) < n_cells for part in parts)


@pytest.mark.parametrize(("n_cells", "n_held"), [(8, 3), (10, 3), (50, 12)])
def test_of_many_cells_a_quarter_is_held_out(n_cells, n_held):
    (part,) = held_out(units(n_cells, 8), 0)
    assert sum(u.is_cell for u in part) == n_held
    assert sum(not u.is_cell for u in part) == 2


def test_of_very_many_only_some_are_held_out_and_looked_at_again_and_again():
    mixed = [unit for pair in zip(*[iter(units(1000, 1000))] * 2, strict=True) for unit in pair]
    (part,) = held_out(mixed, 0, per_patch=50)
    assert sum(u.is_cell for u in part) == 64
    assert sum(not u.is_cell for u in part) <= 64
    (part,) = held_out(mixed, 0, per_patch=2)
    assert 12 <= len({mixed.index(unit) // 2 for unit in part}) <= 24
    parts = held_out(units(5, 2000), 0)
    assert sum(len(part) for part in parts) == 5 + 64


def test_the_choice_is_a_function_of_the_seed():
    assert held_out(units(20), 3) == held_out(units(20), 3)
    assert held_out(units(20), 3) != held_out(units(20), 4)
