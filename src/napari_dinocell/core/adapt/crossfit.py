"""Train with parts of the evidence held out, then on all of it."""

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

_FEW_STEPS = 6  # between two looks at few held-out patches
_PATCHES_PER_STEP = 3  # held-out patches that take half as long to look at as a step takes
_SINGLE = 0.75  # part of the time for the training with a single held-out part


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
    by_base : list of the same
        Maps of the base for the same units; empty where nothing is verified.
    is_verified, is_cancelled : bool
    folds : list of Curve
    final : Curve or None
        Training on everything.
    """

    state: State
    maps: list[tuple[frozenset[Unit], list[MapArray]]]
    by_base: list[tuple[frozenset[Unit], list[MapArray]]]
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
    """Find out on held-out parts for how long training helps; then use everything.

    With several parts, everything is trained on for as many steps as did best. With a single part
    the best weights go on from there, on everything, for a quarter of their steps: most of the time
    then serves the weights that are kept.

    Parameters
    ----------
    network : DINOCell
        The base.
    evidence : Evidence
    parts : sequence of sets of Unit
        See `held_out`.
    recipe : Recipe
    seconds : float
        Of all trainings together.
        No training begins a step that would end after its share; each makes at least one.
    cancel : callable, optional
        Asked before every step; True stops.
    watch : callable, optional
        Gets the curve of the training that runs, and the part of the time that is over, in [0, 1].

    Returns
    -------
    Trained
        `is_verified` unless `parts` is empty.

    Notes
    -----
    Cancelled while a part is held out, the best weights of that time are kept, verified by that
    part alone; cancelled while training on everything, those of the fold that gained most. Where
    nothing is held out there is nothing to choose by: the weights of the last step are kept.

    Raises
    ------
    Cancelled
        If not a single step was made.
    ValueError
        If no annotation is left to train on.
    """
    started = time.perf_counter()
    n_patches = len(evidence.patches)
    epoch = max(1, -(-n_patches // recipe.batch))
    most_held = max((len(evidence.patches_of(part)) for part in parts), default=0)
    check_every = max(min(epoch, _FEW_STEPS), most_held // _PATCHES_PER_STEP)
    everything = frozenset(evidence.units)
    fits: list[tuple[frozenset[Unit], Fitted]] = []

    def is_cancelled() -> bool:
        return cancel is not None and cancel()

    def run(held: frozenset[Unit], steps: int, stop: float, start: State | None = None) -> Fitted:
        """Train on all but `held` until the part `stop` of the time is over."""
        training = evidence.training(everything - held)
        held_samples = evidence.held_out(held) if held else []
        spent = time.perf_counter() - started
        begun = spent / seconds

        def report(curve: Curve, done: float) -> None:
            if watch is not None:
                watch(curve, min(begun + done * max(stop - begun, 0.0), 1.0))

        return fit(
            network if start is None else with_decoder(network, start),
            training,
            held_samples,
            recipe if start is None else recipe.model_copy(update={"start": "warm"}),
            seconds=max(stop * seconds - spent, 0.01),
            steps=steps,
            check_every=check_every,
            cancel=cancel,
            watch=report,
        )

    def of_base(held: frozenset[Unit], fitted: Fitted) -> list[MapArray]:
        """Maps of the base: those before the first step, unless fresh weights were trained."""
        if recipe.start == "warm":
            return fitted.maps[0]
        return decode(network, evidence.patches_of(held))

    most = recipe.epochs * epoch
    if not parts:
        final = run(frozenset(), most, 1.0)
        if final.curve.steps[-1] == 0:
            raise Cancelled
        maps = decode(with_decoder(network, final.state), evidence.patches_of(everything))
        held_maps = [(everything, maps)]
        return Trained(final.state, held_maps, [], False, is_cancelled(), [], final.curve)
    is_single = len(parts) == 1
    for number, part in enumerate(parts, start=1):
        if is_cancelled():
            break
        fits.append((part, run(part, most, _SINGLE if is_single else number / (len(parts) + 1))))
    if not fits:
        raise Cancelled
    folds = [one.curve for _, one in fits]
    part, best_fit = max(fits, key=lambda one: _gain(one[1].curve))
    if not is_cancelled():
        check = _best_check(folds)
        held_maps = [(held, one.maps[check]) for held, one in fits]
        base_maps = [(held, of_base(held, one)) for held, one in fits]
        steps = folds[0].steps[check]
        if steps == 0:
            return Trained(best_fit.state, held_maps, base_maps, True, False, folds, None)
        if is_single:
            last = run(frozenset(), max(1, steps // 4), 1.0, best_fit.state)
        else:
            last = run(frozenset(), steps, 1.0)
        if not is_cancelled():
            return Trained(last.state, held_maps, base_maps, True, False, folds, last.curve)
    best = int(np.argmin(best_fit.curve.held_out))
    held_maps, base_maps = [(part, best_fit.maps[best])], [(part, of_base(part, best_fit))]
    return Trained(best_fit.state, held_maps, base_maps, True, True, folds, None)


def _gain(curve: Curve) -> float:
    """By how much the held-out loss fell, as a part of what it was."""
    return 1 - min(curve.held_out) / max(curve.held_out[0], 1e-9)


def _best_check(curves: Sequence[Curve]) -> int:
    """Check with the lowest held-out loss over all trainings, among those that all came to.

    The last check of a training that ran out of time came a few steps early, which is neglected.
    """
    n_checks = min(len(curve.held_out) for curve in curves)
    losses = np.array([curve.held_out[:n_checks] for curve in curves])
    return int(np.argmin((losses / np.maximum(losses[:, :1], 1e-9)).mean(axis=0)))
