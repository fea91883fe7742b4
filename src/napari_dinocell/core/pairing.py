"""The best one-to-one pairing of two sets, of whose members few are possible pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["best_pairs"]

IntArray = npt.NDArray[np.int32]


def best_pairs(
    rows: IntArray, columns: IntArray, weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Positions of the pairs of the one-to-one pairing with the largest sum of weights.

    Parameters
    ----------
    rows, columns : (n,) int arrays
        Members of each possible pair, not negative; no pair twice.
    weights : (n,) float array
        Above 0.

    Returns
    -------
    (m,) int array
        Into `rows` and `columns`; among pairings of the same sum the same one each time.

    Notes
    -----
    Solved for each group of members that hang together, of which most are one pair: cubic in the
    size of the largest group, linear in the number of groups.

    Examples
    --------
    >>> import numpy as np
    >>> best_pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.6, 0.5, 0.4])).tolist()
    [1, 2]
    """
    if not len(rows):
        return np.zeros(0, np.intp)
    n_rows, n_columns = int(rows.max()) + 1, int(columns.max()) + 1
    size = n_rows + n_columns
    graph = coo_array((np.ones(len(rows)), (rows, n_rows + columns)), shape=(size, size))
    group = connected_components(graph, directed=False)[1][rows]
    taken = []
    by_group = np.argsort(group, kind="stable")
    for members in np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1):
        if len(members) == 1:
            taken.append(members)
            continue
        row, column = (np.unique(x[members], return_inverse=True)[1] for x in (rows, columns))
        matrix = np.zeros((row.max() + 1, column.max() + 1))
        matrix[row, column] = weights[members]
        position = np.full(matrix.shape, -1, np.intp)
        position[row, column] = members
        chosen = position[linear_sum_assignment(matrix, maximize=True)]
        taken.append(chosen[chosen >= 0])
    return np.concatenate(taken)
