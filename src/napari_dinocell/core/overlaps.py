"""Which instances of two label images overlap, and by how many pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OverlapTable:
    """Areas of all instances of two label images, and of every non-empty overlap.

    Overlap k is between `true_ids[rows[k]]` and `pred_ids[columns[k]]`. Background is no instance,
    but pixels on it count in the areas, so unions are complete.
    """

    true_ids: NDArray[np.integer]
    pred_ids: NDArray[np.integer]
    true_areas: IntArray
    pred_areas: IntArray
    rows: IntArray
    columns: IntArray
    intersections: IntArray

    @property
    def ious(self) -> FloatArray:
        """Intersection over union of every overlap, in (0, 1]."""
        unions = self.true_areas[self.rows] + self.pred_areas[self.columns] - self.intersections
        return self.intersections / unions

    def best_ious(self) -> FloatArray:
        """Largest IoU of each predicted instance with any reference, 0 without overlap."""
        best = np.zeros(len(self.pred_ids))
        np.maximum.at(best, self.columns, self.ious)
        return best


def overlap_table(true: NDArray[np.integer], pred: NDArray[np.integer]) -> OverlapTable:
    """Overlaps of all instances of two label images.

    Parameters
    ----------
    true, pred : (Y, X) or (Z, Y, X) int arrays of one shape
        0 is background. Ids need not be consecutive; any integer dtype, any number of ids.

    Returns
    -------
    OverlapTable

    Raises
    ------
    TypeError
        If an array is not of integers (or booleans).
    ValueError
        If the shapes differ or an id is negative.

    Notes
    -----
    One counting pass over the pixels where both are foreground: O(pixels) in time and memory,
    except for ids far above, or tables far larger than, the number of pixels, which are sorted.
    """
    true, pred = np.asarray(true), np.asarray(pred)
    _check(true, "true")
    _check(pred, "predicted")
    if true.shape != pred.shape:
        raise ValueError(
            f"True labels have the shape {true.shape}, predicted labels {pred.shape}; "
            "give labels of the same image."
        )
    true_ids, true_areas, true_rank = compact(true.ravel())
    pred_ids, pred_areas, pred_rank = compact(pred.ravel())
    both = (true_rank > 0) & (pred_rank > 0)
    # int64 before the product: 65 536 cells in each image already overflow 32 bits.
    pairs = (true_rank[both] - 1) * len(pred_ids) + (pred_rank[both] - 1)
    if len(true_ids) * len(pred_ids) <= 4 * true.size:
        counts = np.bincount(pairs)
        codes = np.flatnonzero(counts)
        counts = counts[codes]
    else:
        codes, counts = np.unique(pairs, return_counts=True)
    rows, columns = np.divmod(codes, max(len(pred_ids), 1))
    return OverlapTable(true_ids, pred_ids, true_areas, pred_areas, rows, columns, counts)


def _check(labels: NDArray[np.integer], name: str) -> None:
    if labels.dtype.kind not in "iub":
        raise TypeError(
            f"{name.capitalize()} labels are of type {labels.dtype}; they must be integers, "
            "0 for background and one number per cell."
        )
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(
            f"{name.capitalize()} labels contain {labels.min()}; ids must not be negative, "
            "0 is background."
        )


def compact(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], IntArray, IntArray]:
    """Number the instances of a label image without gaps.

    Parameters
    ----------
    labels : (n,) int array
        Of any ids from 0, which is background. Those far above the number of pixels are sorted
        instead of counted.

    Returns
    -------
    ids : (k,) int array
        That occur, ascending, without 0.
    areas : (k,) int64 array
        In pixels.
    ranks : (n,) int64 array
        Of each pixel's id, 1 to k; 0 on background.
    """
    largest = int(labels.max(initial=0))
    if largest <= 4 * labels.size + 1024:
        counts = np.bincount(labels.astype(np.int64), minlength=1)
        counts[0] = 0
        ids = np.flatnonzero(counts)
        ranks = np.zeros(len(counts), dtype=np.int64)
        ranks[ids] = np.arange(1, len(ids) + 1)
        return ids, counts[ids], ranks[labels.astype(np.int64)]
    ids, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if ids[0] == 0:
        return ids[1:], counts[1:], inverse
    return ids, counts, inverse + 1
