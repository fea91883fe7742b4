"""The best pairing against all pairings."""

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_dinocell.core.pairing import best_pairs


@given(
    arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 9))
)
def test_no_pairing_of_all_has_a_larger_sum(weights):
    rows, columns = np.nonzero(weights)
    taken = best_pairs(
        rows.astype(np.int32), columns.astype(np.int32), weights[rows, columns].astype(float)
    )
    assert len(set(rows[taken])) == len(set(columns[taken])) == len(taken)
    table = weights if weights.shape[0] <= weights.shape[1] else weights.T
    best = max(
        sum(table[row, column] for row, column in enumerate(choice))
        for choice in permutations(range(table.shape[1]), table.shape[0])
    )
    assert weights[rows[taken], columns[taken]].sum() == best


def test_no_pair_is_taken_from_none():
    nothing = np.zeros(0, np.int32)
    assert best_pairs(nothing, nothing, np.zeros(0)).tolist() == []
