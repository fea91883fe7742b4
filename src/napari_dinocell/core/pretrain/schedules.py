"""Values that change with the training step, as arrays: ``schedule[step]``.

Arrays have no state, so that a resumed run continues with the value that it would have had.
Formulas and defaults: DINO (arXiv:2104.14294, appendix), DINOv2, DINOv3; the EMA rule for other
batch sizes: Busbridge et al. 2023 (arXiv:2307.13813, definition 1.2).
"""

import math

import numpy as np
from numpy.typing import NDArray

Schedule = NDArray[np.float64]


def cosine_schedule(
    peak: float, end: float, n_steps: int, *, n_warmup: int = 0, start: float = 0.0
) -> Schedule:
    """Linear warm-up from `start` to `peak`, then half a cosine to `end`.

    Learning rate: ``cosine_schedule(5e-5, 1e-6, n_steps, n_warmup=5 * steps_per_epoch)``. Weight
    decay: without warm-up, from its first to its last value.

    Returns
    -------
    (n_steps,) float64 array
        `start` at step 0 if there is a warm-up; `peak` at step `n_warmup`; exactly `end` at the
        last step.

    Raises
    ------
    ValueError
        If `n_steps` is below 1 or the warm-up leaves no step.

    Notes
    -----
    ::

        t < W:   start + (peak - start) * t / W
        t >= W:  end + (peak - end) * (1 + cos(pi * (t - W) / (T - 1 - W))) / 2
    """
    _check_steps(n_steps)
    if not 0 <= n_warmup < n_steps:
        raise ValueError(
            f"Warm-up of {n_warmup} steps in a run of {n_steps}; it must be shorter than the run."
        )
    warmup = start + (peak - start) * np.arange(n_warmup) / max(n_warmup, 1)
    n_cosine = n_steps - n_warmup
    progress = np.arange(n_cosine) / max(n_cosine - 1, 1)
    cosine = end + (peak - end) * (1 + np.cos(np.pi * progress)) / 2
    cosine[-1], cosine[0] = end, peak  # exact, whatever the rounding of a difference and a sum
    return np.concatenate([warmup, cosine])


def momentum_schedule(start: float, end: float, n_steps: int) -> Schedule:
    """Teacher momentum: half a cosine from `start` (0.996) up to `end` (1.0), both reached exactly.

    Notes
    -----
    ::

        end - (end - start) * (1 + cos(pi * t / (T - 1))) / 2
    """
    if not 0.0 <= start <= end <= 1.0:
        raise ValueError(
            f"Teacher momentum from {start} to {end}; expected 0 <= start <= end <= 1."
        )
    return cosine_schedule(start, end, n_steps)


def linear_schedule(start: float, end: float, n_steps: int, *, n_ramp: int) -> Schedule:
    """Straight line from `start` at step 0 to `end` at step `n_ramp`, then constant.

    Teacher temperature: ``linear_schedule(0.04, 0.07, n_steps, n_ramp=30 * steps_per_epoch)``.
    """
    _check_steps(n_steps)
    if n_ramp < 0:
        raise ValueError(f"Ramp of {n_ramp} steps; it must not be negative.")
    if n_ramp == 0:
        return np.full(n_steps, float(end))
    share = np.minimum(np.arange(n_steps) / n_ramp, 1.0)
    return np.where(share < 1.0, start + (end - start) * share, end)


def frozen_at_first(schedule: Schedule, n_frozen: int) -> Schedule:
    """Copy of a schedule with 0 in its first `n_frozen` steps (for the prototypes)."""
    if n_frozen < 0:
        raise ValueError(f"{n_frozen} frozen steps; the number must not be negative.")
    frozen = schedule.copy()
    frozen[:n_frozen] = 0.0
    return frozen


def scaled_learning_rate(rate: float, batch: int, *, reference_batch: int = 64) -> float:
    """Learning rate for another global batch, for Adam: rate * sqrt(batch / reference_batch)."""
    _check_batch(batch)
    return rate * math.sqrt(batch / reference_batch)


def scaled_momentum(momentum: float, batch: int, *, reference_batch: int = 64) -> float:
    """Teacher momentum for another global batch: momentum ** (batch / reference_batch).

    The teacher's memory then spans the same number of samples.
    """
    _check_batch(batch)
    return float(momentum ** (batch / reference_batch))


def _check_steps(n_steps: int) -> None:
    if n_steps < 1:
        raise ValueError(f"A run of {n_steps} steps; it needs at least 1.")


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise ValueError(f"Global batch of {batch}; it needs at least 1.")
