import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import relabel_sequential

from napari_dinocell.core.metrics import (
    SCORES,
    ImageScore,
    bootstrap,
    pool,
    score_image,
)
from napari_dinocell.core.overlaps import overlap_table

EMPTY = np.zeros((4, 4), dtype=np.int32)


def drawn(text: str) -> np.ndarray:
    """Labels from a picture: a digit per pixel, '.' is background."""
    rows = text.split()
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], dtype=np.int32)


def label_images(max_side: int = 9, max_id: int = 6) -> st.SearchStrategy[tuple]:
    shapes = st.tuples(st.integers(1, max_side), st.integers(1, max_side))
    return shapes.flatmap(
        lambda shape: st.tuples(
            *(hnp.arrays(np.int32, shape, elements=st.integers(0, max_id)) for _ in range(2))
        )
    )


def test_a_perfect_result_scores_one_everywhere() -> None:
    labels = drawn("11.22 11.22 ..... 33333")
    score = pool([score_image(labels, labels)])
    assert [getattr(score, name) for name in SCORES] == [1.0] * len(SCORES)


def test_exactly_half_of_the_reference_is_no_match_for_seg_but_iou_one_half_is_one_for_ap() -> None:
    score = score_image(drawn("1111"), drawn("22.."))
    assert (score.seg_sum, score.n_missed, score.n_spurious) == (0.0, 1, 1)
    assert (score.tp50, score.iou_sum) == (1, 0.5)


def test_one_pixel_more_than_half_is_a_match() -> None:
    score = score_image(drawn("11111"), drawn("222.."))
    assert score.seg_sum == pytest.approx(3 / 5)
    assert (score.n_missed, score.n_spurious, score.tp50, score.tp75) == (0, 0, 1, 0)


def test_cover_counts_even_where_the_result_is_much_larger() -> None:
    # SEG matches by cover of the reference alone; AP needs the IoU.
    score = score_image(drawn("1......."), drawn("22222222"))
    assert score.seg_sum == pytest.approx(1 / 8)
    assert (score.n_missed, score.n_spurious, score.tp50) == (0, 0, 0)


def test_a_result_over_two_references_is_one_split_and_no_miss() -> None:
    score = score_image(drawn("111222"), drawn("777777"))
    assert (score.n_splits, score.n_missed, score.n_spurious) == (1, 0, 0)
    assert score.seg_sum == pytest.approx(0.5 + 0.5)
    assert score.tp50 == 1  # two candidates at IoU 0.5, one of them can be paired
    assert pool([score]).det == pytest.approx(1 - 5 / 20)


def test_a_result_over_three_references_needs_two_splits() -> None:
    assert score_image(drawn("112233"), drawn("777777")).n_splits == 2


def test_a_miss_costs_ten_and_a_spurious_cell_one() -> None:
    true, pred = drawn("11.22.33..."), drawn("11.22....55")
    score = pool([score_image(true, pred)])
    assert (score.n_missed, score.n_spurious) == (1, 1)
    assert score.det == pytest.approx(1 - (10 + 1) / 30)
    assert score.seg == pytest.approx(2 / 3)
    assert score.op_csb == pytest.approx((2 / 3 + 1 - 11 / 30) / 2)
    assert score.ap50 == pytest.approx(2 / 4)
    assert score.f1_50 == pytest.approx(4 / 6)
    assert score.pq == pytest.approx(2 / 3)


def test_a_reference_cut_in_two_halves_is_missed_and_both_halves_are_spurious() -> None:
    score = score_image(drawn("1111"), drawn("2233"))
    assert (score.seg_sum, score.n_missed, score.n_spurious) == (0.0, 1, 2)
    assert (score.tp50, score.iou_sum) == (1, 0.5)


def test_ties_at_iou_one_half_are_paired_one_to_one() -> None:
    score = score_image(drawn("11112222.33334444"), drawn("55667788.99999999"))
    assert (score.tp50, score.iou_sum) == (3, 1.5)


def test_det_is_never_negative() -> None:
    spurious = np.arange(1, 17, dtype=np.int32).reshape(4, 4)
    true = EMPTY.copy()
    true[0, 0] = 1
    assert pool([score_image(true, np.where(true, 0, spurious))]).det == 0.0


def test_thresholds_of_ap_are_reached_at_equality() -> None:
    assert score_image(drawn("1111"), drawn("111.")).tp75 == 1
    assert score_image(drawn("1111111111"), drawn("111111111.")).tp90 == 1


def test_images_without_references_add_only_their_spurious_cells() -> None:
    true, pred = drawn("11..22"), drawn("11..22")
    with_empty = pool([score_image(true, pred), score_image(EMPTY, np.eye(4, dtype=np.int32))])
    assert (with_empty.n_empty, with_empty.n_spurious) == (1, 1)
    assert with_empty.seg == 1.0
    assert with_empty.det == pytest.approx(1 - 1 / 20)
    assert with_empty.ap50 == pytest.approx(2 / 3)


def test_nothing_but_empty_references_is_undefined_and_says_so() -> None:
    score = pool([score_image(EMPTY, np.eye(4, dtype=np.int32))])
    assert np.isnan([score.seg, score.det, score.op_csb]).all()
    assert score.ap50 == 0.0
    assert "1 predicted cells are all spurious" in score.note


def test_an_image_empty_in_both_is_skipped_and_counted() -> None:
    alone = pool([score_image(EMPTY, EMPTY)])
    assert np.isnan([getattr(alone, name) for name in SCORES]).all()
    assert (alone.n_images, alone.n_empty, alone.n_spurious) == (1, 1, 0)
    full = score_image(drawn("11.2"), drawn("11.."))
    both = pool([full, score_image(EMPTY, EMPTY)])
    assert [getattr(both, n) for n in SCORES] == [getattr(pool([full]), n) for n in SCORES]


def test_references_without_any_result_score_zero() -> None:
    score = pool([score_image(drawn("11.2"), drawn("...."))])
    assert (score.seg, score.det, score.ap50, score.pq, score.note) == (0.0, 0.0, 0.0, 0.0, "")


def test_pooling_counts_every_cell_once_and_is_no_mean_over_images() -> None:
    many = score_image(drawn("1.2.3.4.5.6.7.8.9"), drawn("1.2.3.4.5.6.7.8.9"))
    one = score_image(drawn("1"), drawn("."))
    assert pool([many, one]).seg == pytest.approx(9 / 10)
    assert pool([many, one]).ap50 == pytest.approx(9 / 10)


@settings(deadline=None, max_examples=60)
@given(label_images(), st.permutations(range(1, 7)), st.integers(0, 1_000_000_000))
def test_scores_depend_neither_on_the_order_of_ids_nor_on_their_values(images, order, offset):
    true, pred = images
    renamed = np.concatenate([[0], np.array(order) + offset])[pred]
    assert _close(score_image(true, renamed), score_image(true, pred))


def _close(a: ImageScore, b: ImageScore) -> bool:
    return all(np.isclose(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


@settings(deadline=None, max_examples=40)
@given(label_images(), st.sampled_from(["uint8", "uint16", ">u2", "int64", "uint64", "int16"]))
def test_scores_do_not_depend_on_the_type_of_the_labels(images, dtype):
    true, pred = images
    assert score_image(true.astype(dtype), pred.astype(dtype)) == score_image(true, pred)


@settings(deadline=None, max_examples=60)
@given(label_images())
def test_table_equals_counting_every_pair_by_itself(images):
    true, pred = images
    table = overlap_table(true, pred)
    assert list(table.true_ids) == [i for i in np.unique(true) if i]
    assert list(table.pred_areas) == [(pred == i).sum() for i in table.pred_ids]
    counted = {
        (t, p): ((true == t) & (pred == p)).sum()
        for t in table.true_ids
        for p in table.pred_ids
        if ((true == t) & (pred == p)).any()
    }
    pairs = zip(table.true_ids[table.rows], table.pred_ids[table.columns], strict=True)
    assert dict(zip(pairs, table.intersections, strict=True)) == counted


def test_best_ious_are_per_result_and_zero_without_overlap() -> None:
    table = overlap_table(drawn("1122...."), drawn("3334..55"))
    assert list(table.pred_ids) == [3, 4, 5]
    assert table.best_ious() == pytest.approx([2 / 3, 1 / 2, 0.0])


def test_more_cells_than_sixteen_bits_hold_do_not_wrap() -> None:
    labels = np.arange(1, 300 * 300 + 1, dtype=np.int32).reshape(300, 300)
    score = score_image(labels, labels[::-1, ::-1].copy()[::-1, ::-1])
    assert (score.n_true, score.tp50, score.n_missed) == (90_000, 90_000, 0)
    shifted = score_image(labels, np.roll(labels, 1, axis=1) + np.int64(3_000_000_000))
    assert (shifted.tp90, shifted.n_missed, shifted.n_spurious) == (90_000, 0, 0)


def test_small_types_with_large_ids_do_not_wrap() -> None:
    labels = np.zeros((2, 510), dtype=np.uint8)
    labels[:, :255] = np.arange(1, 256)
    assert score_image(labels, labels).tp90 == 255


def test_the_dense_and_the_sorted_count_agree() -> None:
    rng = np.random.default_rng(1)
    true, pred = rng.integers(0, 40, (2, 64, 64))
    far = np.where(pred, pred * 1_000_003, 0)
    wide = np.where(true, np.arange(64 * 64).reshape(64, 64) + 1, 0)  # table beyond 4 x pixels
    assert _close(score_image(true, far), score_image(true, pred))
    assert _close(score_image(wide, far), score_image(relabel_sequential(wide)[0], pred))


def test_stacks_are_scored_as_one_volume() -> None:
    labels = np.zeros((3, 4, 4), dtype=np.uint16)
    labels[:2, 1:3, 1:3] = 5
    assert score_image(labels, labels).n_true == 1


def test_wrong_labels_are_named_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 4\), predicted labels \(1, 4\)"):
        score_image(EMPTY, drawn("1111"))
    with pytest.raises(TypeError, match="Predicted labels are of type float64"):
        score_image(EMPTY, EMPTY.astype(float))
    with pytest.raises(ValueError, match="True labels contain -1"):
        score_image(EMPTY - 1, EMPTY)


def scores_of(n: int, seed: int = 3) -> list[ImageScore]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 3, (n, 2, 6, 6))
    return [score_image(true, pred) for true, pred in images]


def test_bootstrap_is_deterministic_and_contains_the_score() -> None:
    scores = scores_of(30)
    intervals = bootstrap(scores, seed=5)
    assert intervals == bootstrap(scores, seed=5)
    assert intervals != bootstrap(scores, seed=6)
    for name in SCORES:
        low, high = intervals[name]
        assert low <= getattr(pool(scores), name) <= high


def test_bootstrap_of_equal_images_has_no_width_and_of_one_image_no_answer() -> None:
    one = score_image(drawn("11.2"), drawn("11.."))
    assert bootstrap([one] * 5)["seg"] == pytest.approx((0.5, 0.5))
    assert np.isnan(bootstrap([one])["seg"]).all()


def test_bootstrap_width_is_that_of_the_binomial_it_draws_from() -> None:
    # Single-cell images, found or not: pooled SEG is a proportion.
    found, missed = score_image(drawn("1"), drawn("1")), score_image(drawn("1"), drawn("."))
    low, high = bootstrap([found] * 60 + [missed] * 40, n_resamples=20_000)["seg"]
    assert (low, high) == pytest.approx((0.50, 0.69), abs=0.015)  # scipy.stats.binom(100, 0.6)


def test_bootstrap_refuses_impossible_settings() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap(scores_of(3), level=95)
    with pytest.raises(ValueError, match="at least 1"):
        bootstrap(scores_of(3), n_resamples=0)
