"""Hold out a part of a data set for validation."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from napari_dinocell.core.training.data import LabeledDataset


def split_validation(
    dataset: LabeledDataset, fraction: float = 0.1, seed: int = 0
) -> tuple[LabeledDataset, LabeledDataset]:
    """Split a data set into training and validation, stratified by set.

    Images of one group never part. Which group is held out depends on its name and the seed alone,
    not on the order of the images, so that adding a few moves few.

    Parameters
    ----------
    dataset : LabeledDataset
        At least one of its sets has two groups or more.
    fraction : float
        Share of the images of each set to hold out, 0 < fraction < 1. A set with two groups or
        more gives at least one, and a set with a single group gives none.
    seed : int
        Another seed, another choice.

    Returns
    -------
    training, validation : LabeledDataset
        In the order of `dataset`; images without labels are in the first, or, where their group is
        held out, in none.

    Raises
    ------
    ValueError
        If `fraction` is out of range, or every set is a single group.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"Fraction is {fraction}; it must be between 0 and 1.")
    # A group that spans sets moves as one.
    members: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(dataset):
        members[item.group].append(i)
    held_out: set[str] = set()
    for set_name in dataset.set_names:
        inside = {
            group: n
            for group, indices in members.items()
            if (n := sum(dataset[i].set_name == set_name for i in indices if dataset[i].is_labeled))
        }
        held_out |= _choose(inside, held_out, fraction, seed)
    if not held_out:
        raise ValueError(
            "Every set is a single group, so nothing can be held out; name a validation source."
        )
    chosen = {i for group in held_out for i in members[group]}
    return (
        dataset.subset(i for i in range(len(dataset)) if i not in chosen),
        dataset.subset(i for i in sorted(chosen) if dataset[i].is_labeled),
    )


def _choose(sizes: dict[str, int], taken: set[str], fraction: float, seed: int) -> set[str]:
    """Choose groups whose images come nearest to the fraction, by the order of their hashes."""
    target = fraction * sum(sizes.values())
    chosen = taken & sizes.keys()
    held = sum(sizes[group] for group in chosen)
    for group in sorted(sizes.keys() - chosen, key=lambda g: _order(g, seed)):
        is_nearer = abs(held + sizes[group] - target) < abs(held - target)
        if is_nearer and len(chosen) + 1 < len(sizes):
            chosen.add(group)
            held += sizes[group]
    if not chosen and len(sizes) > 1:
        chosen.add(min(sizes, key=lambda g: (sizes[g], _order(g, seed))))
    return chosen


def _order(group: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()
