"""Every value of a run that moves with the step, as arrays: first the heads alone, then all."""

from dataclasses import dataclass

import numpy as np

from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.schedules import (
    Schedule,
    cosine_schedule,
    frozen_at_first,
    linear_schedule,
    momentum_schedule,
    scaled_learning_rate,
    scaled_momentum,
)


@dataclass(frozen=True)
class Plan:
    """Schedules of a run; each array has one value per step.

    Attributes
    ----------
    n_heads : int
        Steps of stage A, in which the backbone is frozen.
    backbone_rate, head_rate, prototype_rate : array
        Learning rates. That of the backbone is 0 in stage A and rises from 0 in stage B, because
        gradients of new heads would ruin it; the heads keep their rate meanwhile.
    weight_decay, momentum, temperature : array
        Momentum and temperature are the teacher's.
    """

    n_heads: int
    backbone_rate: Schedule
    head_rate: Schedule
    prototype_rate: Schedule
    weight_decay: Schedule
    momentum: Schedule
    temperature: Schedule

    def __len__(self) -> int:
        return len(self.momentum)


def make_plan(config: SSLConfig) -> Plan:
    """Schedules of a configuration."""
    optimizer, teacher, heads = config.optimizer, config.teacher, config.heads
    n_a, n_b, per_epoch = heads.steps, config.stage_b_steps, config.steps_per_epoch
    peak = scaled_learning_rate(optimizer.lr, config.batch)
    n_warmup = min(round(optimizer.warmup_epochs * per_epoch), n_b - 1)
    rate = cosine_schedule(peak, min(optimizer.final_lr, peak), n_b, n_warmup=n_warmup)
    alone = np.full(n_a, peak * optimizer.head_scale)
    n_rise = min(heads.warmup, n_a)
    alone[:n_rise] *= np.arange(n_rise) / max(n_rise, 1)
    together = rate * optimizer.head_scale
    if n_a:  # trained heads do not warm up a second time
        together[:n_warmup] = peak * optimizer.head_scale
    head_rate = np.concatenate([alone, together])
    end = max(teacher.final_momentum, teacher.momentum)
    start = min(scaled_momentum(teacher.momentum, config.batch), end)
    return Plan(
        n_heads=n_a,
        backbone_rate=np.concatenate([np.zeros(n_a), rate]),
        head_rate=head_rate,
        prototype_rate=frozen_at_first(head_rate, heads.still),
        weight_decay=cosine_schedule(
            optimizer.weight_decay, optimizer.final_weight_decay, n_a + n_b
        ),
        momentum=np.concatenate([np.full(n_a, heads.momentum), momentum_schedule(start, end, n_b)]),
        temperature=np.concatenate(
            [
                np.full(n_a, teacher.temperature),
                linear_schedule(
                    teacher.temperature,
                    teacher.final_temperature,
                    n_b,
                    n_ramp=round(teacher.temperature_epochs * per_epoch),
                ),
            ]
        ),
    )
