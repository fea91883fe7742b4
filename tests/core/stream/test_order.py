from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.stream.order import Order, rank_slots


@st.composite
def orders(draw) -> Order:
    tiles = draw(st.integers(1, 5))
    batch = tiles * draw(st.integers(1, 4))
    shards = draw(st.lists(st.integers(1, 9), min_size=batch, max_size=40))
    return Order(
        shards,
        seed=draw(st.integers(0, 5)),
        batch=batch,
        tiles_per_field=tiles,
        spread=draw(st.integers(1, 6)),
        window=draw(st.integers(1, 8)),
    )


@given(orders())
@settings(max_examples=60, deadline=None)
def test_invariant_24_an_epoch_shows_every_tile_of_a_field_once_and_no_field_twice_in_a_step(order):
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(order.steps_per_epoch):
        draws = order.step(step)
        fields = [draw.field for draw in draws]
        assert len(set(fields)) == order.batch
        assert [draw.sample for draw in draws] == list(
            range(step * order.batch, (step + 1) * order.batch)
        )
        seen.update((draw.field, draw.tile) for draw in draws)
    assert set(seen.values()) == {1}
    n_shown = order.steps_per_epoch * order.batch
    assert len(seen) == n_shown
    left_out = order.n_fields - n_shown // order.tiles_per_field
    assert 0 <= left_out < order.batch // order.tiles_per_field


@given(orders(), st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_invariant_24_a_step_is_the_same_whether_computed_first_or_after_others(order, step):
    fresh = Order(order._sizes, **{k: v for k, v in order.settings.items() if k != "n_fields"})
    for other in (step + 31, 0, step + 1):
        order.step(other)
    assert order.step(step) == fresh.step(step)


@given(orders(), st.integers(0, 60), st.sampled_from([1, 2, 4]))
@settings(max_examples=60, deadline=None)
def test_ranks_together_see_the_samples_of_one_process(order, step, n_ranks):
    if order.batch % n_ranks:
        with pytest.raises(ValueError, match="shared evenly"):
            rank_slots(order.batch, 0, n_ranks)
        return
    parts = [order.step(step, rank_slots(order.batch, r, n_ranks)) for r in range(n_ranks)]
    joined = [draw[:4] for part in parts for draw in part]
    assert joined == [draw[:4] for draw in order.step(step)]


@given(orders(), st.sampled_from([1, 2, 4]), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_a_field_that_is_kept_is_asked_for_until_its_last_tile_and_no_longer(order, n_ranks, start):
    """Whoever frees a field at `last_tile` holds a bounded number of fields, for ever."""
    if order.batch % n_ranks:
        return
    for rank in range(n_ranks):
        slots, kept = rank_slots(order.batch, rank, n_ranks), {}
        for step in range(start, start + 3 * order.steps_per_epoch):
            for draw in order.step(step, slots):
                key = draw.epoch, draw.field, draw.last_tile
                assert kept.get(key, draw.tile) == draw.tile  # consecutive
                kept[key] = draw.tile + 1
                if draw.tile == draw.last_tile:
                    del kept[key]
            assert len(kept) <= len(slots) * (order.spread + 1)


def test_epochs_differ_and_so_do_seeds():
    def epoch(seed: int, number: int) -> list[int]:
        order = Order([8] * 16, seed=seed, batch=8, tiles_per_field=2, window=4)
        first = number * order.steps_per_epoch
        return [d.field for s in range(order.steps_per_epoch) for d in order.step(first + s)]

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_fields_of_a_shard_are_shown_within_one_window():
    order = Order([10] * 20, seed=3, batch=4, tiles_per_field=1, window=2)
    fields = [d.field for s in range(order.steps_per_epoch) for d in order.step(s)]
    for start in range(0, len(fields), 20):
        assert len({field // 10 for field in fields[start : start + 20]}) == 2


def test_the_tiles_of_a_field_are_spread_over_steps():
    order = Order([8] * 32, seed=0, batch=8, tiles_per_field=4, spread=5)
    steps: dict[int, list[int]] = {}
    for step in range(order.steps_per_epoch):
        for draw in order.step(step):
            steps.setdefault(draw.field, []).append(step)
    whole = [s for s in steps.values() if s[-1] - s[0] == 15]
    assert len(whole) > 0.7 * len(steps)
    assert all([b - a for a, b in pairwise(s)] == [5, 5, 5] for s in whole)


def test_a_step_in_the_steady_state_needs_as_many_new_fields_as_a_batch_has_groups():
    order = Order([64] * 64, seed=0, batch=16, tiles_per_field=8, spread=4)
    seen: set[int] = set()
    for step in range(100):
        new = {d.field for d in order.step(step)} - seen
        if step > 32:
            assert len(new) == 2
        seen |= new


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 6, "tiles_per_field": 4}, "divides the batch"),
        ({"batch": 64}, "64 different fields cannot be drawn from 40"),
        ({"batch": 8, "spread": 0}, "at least 1"),
    ],
)
def test_impossible_orders_are_refused_in_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Order([10] * 4, seed=0, **options)


def test_a_million_fields_need_no_replay_to_go_on():
    order = Order([64] * 15625, seed=0, batch=64)
    draws = order.step(100 * order.steps_per_epoch + 77_777)
    assert len({d.field for d in draws}) == 64
    assert {d.epoch for d in draws} == {100}
