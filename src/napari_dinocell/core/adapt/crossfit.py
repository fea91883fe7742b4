"""Train with parts of the evidence held out, then on all of it for as long as did best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.fit import (
    Curve,
    Fitted,
    MapArray,
    Recipe,
    Watch,
    decode,
    fit,
    with_decoder,
)
from napari_dinocell.core.adapt.windows import Unit
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.inference import Cancel
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.store import State

_MOST_STEPS = 6  # between two looks at the held-out cells


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights, and what verifies them.

    Attributes
    ----------
    state : State
        Of the decoder.
    maps : list of (frozenset of Unit, list of (Y, X) uint16 arrays)
        Units with the maps of their patches. With `is_verified`, each unit was held out of the
        training that made its map.
    is_verified, is_cancelled : bool
    folds : list of Curve
    final : Curve or None
        Training on everything.
    """

    state: State
    maps: list[tuple[frozenset[Unit], list[MapArray]]]
    is_verified: bool
    is_cancelled: bool
    folds: list[Curve]
    final: Curve | None


def crossfit(
    network: DINOCell,
    evidence: Evidence,
    parts: Sequence[frozenset[Unit]],
    recipe: Recipe,
    *,
    seconds: float,
    cancel: Cancel | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Find out on held-out parts for how many steps training helps; then use everything.

    Parameters
    ----------
    network : DINOCell
        The base.
    evidence : Evidence
    parts : sequence of sets of Unit
        See `held_out`.
    recipe : Recipe
    seconds : float
        Of all trainings together; each gets its share.
    cancel, watch : callables, optional

    Notes
    -----
    Cancelled while a part is held out, the best weights of that time are kept, verified by that
    part alone; cancelled while training on everything, those of the fold that gained most. Where
    nothing is held out there is nothing to choose by: the weights of the last step are kept.

    Raises
    ------
    Cancelled
        If not a single step was made.
    """
    started = time.perf_counter()
    n_patches = len(evidence.patches)
    epoch = max(1, -(-n_patches // recipe.batch))
    check_every = min(epoch, _MOST_STEPS)
    everything = frozenset(evidence.units)
    fits: list[tuple[frozenset[Unit], Fitted]] = []

    def is_cancelled() -> bool:
        return cancel is not None and cancel()

    def run(held: frozenset[Unit], steps: int, left: int) -> Fitted:
        """Train on all but `held`; `left` trainings, this one included, share what time is left."""
        training = evidence.training(everything - held)
        held_samples = evidence.held_out(held) if held else []
        spent = time.perf_counter() - started
        number = len(fits)

        def report(curve: Curve, done: float) -> None:
            if watch is not None:
                watch(curve, (number + done) / (number + left))

        return fit(
            network,
            training,
            held_samples,
            recipe,
            seconds=max((seconds - spent) / left, 0.01),
            steps=steps,
            check_every=check_every,
            cancel=cancel,
            watch=report,
        )

    most = recipe.epochs * epoch
    for number, part in enumerate(parts):
        if is_cancelled():
            break
        fits.append((part, run(part, most, len(parts) + 1 - number)))
    folds = [one.curve for _, one in fits]
    if not parts:
        final = run(frozenset(), most, 1)
        if final.curve.steps[-1] == 0:
            raise Cancelled
        maps = decode(with_decoder(network, final.state), evidence.patches_of(everything))
        return Trained(final.state, [(everything, maps)], False, is_cancelled(), folds, final.curve)
    if not fits:
        raise Cancelled
    part, best_fit = max(fits, key=lambda one: _gain(one[1].curve))
    if not is_cancelled():
        check = _best_check(folds)
        held_maps = [(held, one.maps[check]) for held, one in fits]
        if folds[0].steps[check] == 0:
            return Trained(fits[0][1].state, held_maps, True, False, folds, None)
        last = run(frozenset(), folds[0].steps[check], 1)
        if not is_cancelled():
            return Trained(last.state, held_maps, True, False, folds, last.curve)
    best = int(np.argmin(best_fit.curve.held_out))
    return Trained(best_fit.state, [(part, best_fit.maps[best])], True, True, folds, None)


def _gain(curve: Curve) -> float:
    """By how much the held-out loss fell, as a part of what it was."""
    return 1 - min(curve.held_out) / max(curve.held_out[0], 1e-9)


def _best_check(curves: Sequence[Curve]) -> int:
    """Check with the lowest held-out loss over all trainings, among those that all came to."""
    n_checks = min(len(curve.held_out) for curve in curves)
    losses = np.array([curve.held_out[:n_checks] for curve in curves])
    return int(np.argmin((losses / np.maximum(losses[:, :1], 1e-9)).mean(axis=0)))
