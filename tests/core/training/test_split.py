"""Holding out validation images."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.training.data import LabeledDataset, LabeledImage
from napari_dinocell.core.training.split import split_validation


def dataset(sets, seed=0):
    """Images of sets given as {name: sizes of its groups}."""
    return LabeledDataset(
        LabeledImage(name, f"{name}/{g}", Path(f"{name}{g}_{i}.png"), Path("labels.png"))
        for name, sizes in sets.items()
        for g, size in enumerate(sizes)
        for i in range(size)
    )


group_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=20)


@settings(deadline=None, max_examples=80)
@given(
    st.dictionaries(st.sampled_from("abc"), group_sizes, min_size=1),
    st.floats(0.05, 0.5),
    st.integers(0, 99),
)
def test_groups_stay_together_and_each_set_gives_about_its_share(sets, fraction, seed):
    whole = dataset(sets)
    if all(len(sizes) == 1 for sizes in sets.values()):
        with pytest.raises(ValueError, match="single group"):
            split_validation(whole, fraction, seed)
        return
    training, validation = split_validation(whole, fraction, seed)
    assert sorted([*training, *validation], key=str) == sorted(whole, key=str)
    assert not {i.group for i in training} & {i.group for i in validation}
    for name, sizes in sets.items():
        held = sum(item.set_name == name for item in validation)
        assert (held > 0) == (len(sizes) > 1)
        assert held < sum(sizes)
        if held:
            assert abs(held - fraction * sum(sizes)) <= max(sizes)


def test_a_tenth_is_held_out_of_each_set():
    _, validation = split_validation(dataset({"a": [1] * 400, "b": [1] * 50}))
    held = [item.set_name for item in validation]
    assert (held.count("a"), held.count("b")) == (40, 5)


def test_split_depends_on_seed_and_names_and_not_on_order():
    whole = dataset({"a": [1] * 60})
    reverse = LabeledDataset(reversed(whole.images))
    held = {item.group for item in split_validation(whole, seed=1)[1]}
    assert {item.group for item in split_validation(reverse, seed=1)[1]} == held
    assert {item.group for item in split_validation(whole, seed=2)[1]} != held


def test_group_that_spans_two_sets_moves_as_one():
    images = [
        LabeledImage(name, f"field{i}", Path(f"{name}{i}.png"), Path("labels.png"))
        for name in "ab"
        for i in range(10)
    ]
    training, validation = split_validation(LabeledDataset(images), 0.2)
    assert not {i.group for i in training} & {i.group for i in validation}
    assert {i.set_name for i in validation} == {"a", "b"}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_validation(dataset({"a": [1, 1]}), fraction)
