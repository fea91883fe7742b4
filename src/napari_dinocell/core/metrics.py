"""How well predicted labels agree with reference labels: SEG, DET, OP_CSB, AP, F1, PQ.

Everything is derived from one table of overlaps per image. An `ImageScore` holds sums and counts
only, so that any group of images is scored by adding them up (`pool`): every reference cell
counts once, whatever image it is in.

References
----------
SEG, DET and OP_CSB: Cell Tracking Challenge, evaluation methodology; Maska et al., Bioinformatics
30:1609 (2014); Matula et al., PLOS ONE 10:e0144959 (2015). PQ: Kirillov et al., CVPR 2019.
AP is TP / (TP + FP + FN), as in StarDist and Cellpose, not the area under COCO's curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from napari_dinocell.core.overlaps import OverlapTable, overlap_table

IOU_THRESHOLDS = (0.5, 0.75, 0.9)
"""Thresholds of AP and F1; all of them at least 0.5, below which a match is not unique."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ImageScore:
    """Sums and counts of one image; all of them add up over images.

    Attributes
    ----------
    n_true, n_pred : int
        Reference and predicted instances.
    seg_sum : float
        Sum of IoU over references that are matched (more than half covered by one prediction).
    n_splits : int
        NS: a prediction that matches k > 1 references needs k - 1 splits.
    n_missed : int
        References without match.
    n_spurious : int
        Predictions that match no reference.
    tp50, tp75, tp90 : int
        One-to-one pairs with IoU >= 0.5, 0.75, 0.9.
    iou_sum : float
        Sum of IoU over the pairs of `tp50`.
    """

    n_true: int
    n_pred: int
    seg_sum: float
    n_splits: int
    n_missed: int
    n_spurious: int
    tp50: int
    tp75: int
    tp90: int
    iou_sum: float


@dataclass(frozen=True)
class SetScore:
    """Scores of a set of images; each in [0, 1], or NaN where it is undefined (0 / 0).

    Attributes
    ----------
    n_images, n_empty : int
        Images, and those without any reference instance. The latter only add spurious cells.
    n_true, n_pred, n_splits, n_missed, n_spurious : int
        Sums over the images, see `ImageScore`.
    seg, det, op_csb : float
        NaN when no image has a reference instance.
    ap50, ap75, ap90, f1_50, f1_75, f1_90, pq : float
        NaN only when there is neither a reference nor a predicted instance.
    note : str
        One sentence where a score is undefined, otherwise empty.
    """

    n_images: int
    n_empty: int
    n_true: int
    n_pred: int
    n_splits: int
    n_missed: int
    n_spurious: int
    seg: float
    det: float
    op_csb: float
    ap50: float
    ap75: float
    ap90: float
    f1_50: float
    f1_75: float
    f1_90: float
    pq: float
    note: str = ""


SCORES = ("seg", "det", "op_csb", "ap50", "ap75", "ap90", "f1_50", "f1_75", "f1_90", "pq")
"""Names of the scores of a `SetScore`, in the order of its fields."""


def score_image(true: NDArray[np.integer], pred: NDArray[np.integer]) -> ImageScore:
    """Count the matches of one image, to be pooled; arguments as in `overlap_table`."""
    return score_table(overlap_table(true, pred))


def score_table(table: OverlapTable) -> ImageScore:
    """Count the matches of one image from its overlaps."""
    n_true, n_pred = len(table.true_ids), len(table.pred_ids)
    ious = table.ious
    # Strictly more than half of the reference, in integers: exactly half is no match.
    matched = 2 * table.intersections > table.true_areas[table.rows]
    references_per_pred = np.bincount(table.columns[matched], minlength=n_pred)
    n_matched = int(matched.sum())
    tp50, tp75, tp90 = (_pairs_at(table, ious, t) for t in IOU_THRESHOLDS)
    # Any two candidates of one instance have IoU exactly 0.5, so the sum doesn't depend on which
    # of them the matching takes.
    sure = ious > IOU_THRESHOLDS[0]
    iou_sum = float(ious[sure].sum()) + IOU_THRESHOLDS[0] * (tp50 - int(sure.sum()))
    return ImageScore(
        n_true=n_true,
        n_pred=n_pred,
        seg_sum=float(ious[matched].sum()),
        n_splits=int(np.maximum(references_per_pred - 1, 0).sum()),
        n_missed=n_true - n_matched,
        n_spurious=int((references_per_pred == 0).sum()),
        tp50=tp50,
        tp75=tp75,
        tp90=tp90,
        iou_sum=iou_sum,
    )


def pool(scores: Sequence[ImageScore]) -> SetScore:
    """Scores of a set of images from the sums over all of them.

    Parameters
    ----------
    scores : sequence of ImageScore
        One per image; may be empty.

    Returns
    -------
    SetScore

    Notes
    -----
    SEG = sum of IoU of matched references / references;
    DET = 1 - min(a, a0) / a0 with a = 5 NS + 10 FN + FP and a0 = 10 references;
    OP_CSB = (SEG + DET) / 2; AP = TP / (TP + FP + FN); F1 = 2 TP / (2 TP + FP + FN);
    PQ = sum of IoU of the pairs at 0.5 / (TP + FP / 2 + FN / 2).
    """
    sums = _matrix(scores).sum(axis=0)
    n_true, n_pred, _, n_splits, n_missed, n_spurious = (int(value) for value in sums[:6])
    note = ""
    if n_true == 0:
        note = (
            "No image has a reference cell, so SEG, DET and OP_CSB are undefined; "
            f"{n_pred} predicted cells are all spurious."
        )
    return SetScore(
        n_images=len(scores),
        n_empty=sum(score.n_true == 0 for score in scores),
        n_true=n_true,
        n_pred=n_pred,
        n_splits=n_splits,
        n_missed=n_missed,
        n_spurious=n_spurious,
        note=note,
        **dict(zip(SCORES, _ratios(sums).tolist(), strict=True)),
    )


def bootstrap(
    scores: Sequence[ImageScore],
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the pooled scores when images are drawn with replacement.

    Parameters
    ----------
    scores : sequence of ImageScore
        One per image.
    n_resamples : int
        Number of resampled sets.
    level : float
        Coverage of the interval, in (0, 1).
    seed : int
        Same seed, same intervals.

    Returns
    -------
    dict of str to (low, high)
        By the names in `SCORES`. (NaN, NaN) for fewer than two images, which say nothing about
        the spread, and for scores that are undefined in every resampled set.
    """
    if not 0 < level < 1:
        raise ValueError(f"Level is {level}; it must be between 0 and 1, for example 0.95.")
    if n_resamples < 1:
        raise ValueError(f"{n_resamples} resampled sets were asked for; at least 1 is needed.")
    n = len(scores)
    if n < 2:
        return dict.fromkeys(SCORES, (np.nan, np.nan))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)  # (resamples, images)
    samples = _ratios(drawn @ _matrix(scores))  # (scores, resamples)
    tails = ((1 - level) / 2, (1 + level) / 2)
    intervals = {}
    for name, values in zip(SCORES, samples, strict=True):
        defined = values[~np.isnan(values)]
        low, high = np.quantile(defined, tails) if len(defined) else (np.nan, np.nan)
        intervals[name] = (float(low), float(high))
    return intervals


def _pairs_at(table: OverlapTable, ious: FloatArray, threshold: float) -> int:
    """Size of the largest one-to-one matching among overlaps with IoU >= threshold."""
    good = ious >= threshold
    if (ious[good] > 0.5).all():  # such pairs exclude each other already
        return int(good.sum())
    graph = csr_array(
        (np.ones(int(good.sum()), dtype=np.uint8), (table.rows[good], table.columns[good])),
        shape=(len(table.true_ids), len(table.pred_ids)),
    )
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def _matrix(scores: Sequence[ImageScore]) -> FloatArray:
    """(images, sums) in the order of the fields of `ImageScore`."""
    names = [field.name for field in fields(ImageScore)]
    # Not `astuple`, whose deep copies would be a third of the time of tuning.
    rows = [[getattr(score, name) for name in names] for score in scores]
    return np.array(rows, dtype=float).reshape(-1, len(names))


def _ratios(sums: FloatArray) -> FloatArray:
    """(scores, ...) from (..., sums); NaN for 0 / 0."""
    n_true, n_pred, seg_sum, splits, missed, spurious, *pairs, iou_sum = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore"):
        seg = seg_sum / n_true
        worst = 10 * n_true
        det = 1 - np.minimum(5 * splits + 10 * missed + spurious, worst) / worst
        ap = [tp / (n_true + n_pred - tp) for tp in pairs]
        f1 = [2 * tp / (n_true + n_pred) for tp in pairs]
        pq = 2 * iou_sum / (n_true + n_pred)
    return np.stack([seg, det, (seg + det) / 2, *ap, *f1, pq])
