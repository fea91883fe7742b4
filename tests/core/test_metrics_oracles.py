"""The same scores from two independent programs: py-ctcmetrics and StarDist's matching.

Only input that both get right: consecutive int32 ids, background present, references present.
"""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.segmentation import relabel_sequential

from napari_dinocell.core.metrics import pool, score_image

SEEDS = range(12)


def noisy_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random cells and a result that moves, merges, splits, misses and invents some."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros((96, 112), dtype=bool)
    seeds[rng.integers(2, 94, 30), rng.integers(2, 110, 30)] = True
    distance, nearest = ndimage.distance_transform_edt(~seeds, return_indices=True)
    names = ndimage.label(seeds, structure=np.ones((3, 3)))[0]
    true = np.where(distance < rng.uniform(6, 10), names[tuple(nearest)], 0)
    pred = np.roll(true, rng.integers(0, 2, 2), axis=(0, 1))
    for cell in rng.permutation(np.unique(pred)[1:])[:8]:
        if rng.random() < 0.5:
            pred[pred == cell] = rng.choice([0, rng.integers(1, names.max() + 1)])  # miss or merge
        else:
            pred[(pred == cell) & (np.indices(pred.shape)[0] % 2 == 0)] = 0  # half of its pixels
    pred[:2] = np.where(rng.random((2, 112)) < 0.1, 900, pred[:2])
    true[-1], pred[-1] = 0, 0
    return relabel_sequential(true)[0].astype(np.int32), relabel_sequential(pred)[0].astype(
        np.int32
    )


def test_seg_and_det_equal_those_of_py_ctcmetrics(tmp_path: Path) -> None:
    pytest.importorskip("ctc_metrics", reason="py-ctcmetrics is not installed")
    from ctc_metrics.metrics.technical.det import det  # noqa: PLC0415
    from ctc_metrics.metrics.technical.seg import seg  # noqa: PLC0415
    from ctc_metrics.utils.representations import (  # noqa: PLC0415
        count_acyclic_graph_correction_operations,
        match,
    )

    for seeds in ((0, 1), (2, 3, 4), (5, 6), (7, 8, 9), (10, 11)):
        pairs = [noisy_pair(seed) for seed in seeds]
        matches = []
        for frame, (true, pred) in enumerate(pairs):
            names = [str(tmp_path / f"{kind}{frame}.tif") for kind in ("true", "pred")]
            tifffile.imwrite(names[0], true)
            tifffile.imwrite(names[1], pred)
            matches.append(match(*names))
        labels_ref, labels_comp, mapped_ref, mapped_comp, ious = map(
            list, zip(*matches, strict=True)
        )
        counts = count_acyclic_graph_correction_operations(
            np.zeros((0, 4)), np.zeros((0, 4)), labels_ref, labels_comp, mapped_ref, mapped_comp
        )
        score = pool([score_image(true, pred) for true, pred in pairs])
        assert score.seg == pytest.approx(seg(labels_ref, ious), abs=1e-12)
        assert score.det == pytest.approx(det(**counts), abs=1e-12)
        assert (score.n_splits, score.n_missed, score.n_spurious) == (
            counts["NS"],
            counts["FN"],
            counts["FP"],
        )
        assert counts["NS"] + counts["FN"] + counts["FP"] > 0  # the pairs do differ


def test_ap_f1_and_pq_equal_those_of_stardist() -> None:
    matching = pytest.importorskip("stardist.matching", reason="stardist is not installed")
    pairs = [noisy_pair(seed) for seed in SEEDS]
    trues, preds = map(list, zip(*pairs, strict=True))
    score = pool([score_image(true, pred) for true, pred in pairs])
    for threshold, ap, f1 in (
        (0.5, score.ap50, score.f1_50),
        (0.75, score.ap75, score.f1_75),
        (0.9, score.ap90, score.f1_90),
    ):
        theirs = matching.matching_dataset(trues, preds, thresh=threshold, show_progress=False)
        assert ap == pytest.approx(theirs.accuracy, abs=1e-9)
        assert f1 == pytest.approx(theirs.f1, abs=1e-9)
    at_half = matching.matching_dataset(trues, preds, thresh=0.5, show_progress=False)
    # Their overlaps are float32.
    assert score.pq == pytest.approx(at_half.panoptic_quality, abs=1e-6)
    assert 0 < score.ap90 < score.ap75 < 0.95  # not a trivial case
