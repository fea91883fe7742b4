import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.pretrain.schedules import (
    cosine_schedule,
    frozen_at_first,
    linear_schedule,
    momentum_schedule,
    scaled_learning_rate,
    scaled_momentum,
)

STEPS, WARMUP = 125_000, 6250


def test_invariant_12_learning_rate_starts_at_0_peaks_after_warmup_and_ends_exactly():
    rate = cosine_schedule(5e-5, 1e-6, STEPS, n_warmup=WARMUP)
    assert len(rate) == STEPS
    assert rate[0] == 0.0
    assert rate[WARMUP] == 5e-5
    assert rate[-1] == 1e-6
    assert rate[WARMUP // 2] == pytest.approx(2.5e-5)
    middle = WARMUP + (STEPS - 1 - WARMUP) // 2
    assert rate[middle] == pytest.approx((5e-5 + 1e-6) / 2, rel=1e-4)


def test_invariant_12_momentum_rises_from_0996_to_exactly_1():
    momentum = momentum_schedule(0.996, 1.0, STEPS)
    assert len(momentum) == STEPS
    assert momentum[0] == 0.996
    assert momentum[-1] == 1.0
    assert (np.diff(momentum) >= 0).all()
    t = 31_250
    expected = 1 - 0.004 * (1 + math.cos(math.pi * t / (STEPS - 1))) / 2
    assert momentum[t] == pytest.approx(expected, abs=1e-15)


def test_invariant_12_teacher_temperature_is_reached_at_the_end_of_its_ramp_and_stays():
    temperature = linear_schedule(0.04, 0.07, STEPS, n_ramp=37_500)
    assert len(temperature) == STEPS
    assert temperature[0] == 0.04
    assert temperature[18_750] == pytest.approx(0.055)
    assert temperature[37_499] < 0.07
    assert (temperature[37_500:] == 0.07).all()


def test_invariant_12_weight_decay_goes_from_its_first_to_its_last_value():
    decay = cosine_schedule(0.04, 0.4, STEPS)
    assert decay[0] == 0.04
    assert decay[-1] == 0.4
    assert (np.diff(decay) >= 0).all()
    assert (cosine_schedule(0.04, 0.04, 100) == 0.04).all()


def test_invariant_13_learning_rate_follows_the_square_root_of_the_batch():
    assert scaled_learning_rate(5e-5, 64) == 5e-5
    assert scaled_learning_rate(5e-5, 256) == pytest.approx(1e-4)


def test_momentum_of_a_double_batch_is_two_steps_of_the_single_one():
    assert scaled_momentum(0.996, 64) == 0.996
    assert scaled_momentum(0.996, 128) == pytest.approx(0.996**2)


def test_prototypes_stand_still_at_first_and_the_given_schedule_is_kept():
    rate = np.ones(10)
    assert frozen_at_first(rate, 3).tolist() == [0.0] * 3 + [1.0] * 7
    assert rate.tolist() == [1.0] * 10


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.data())
def test_cosine_stays_between_its_ends_for_any_length(n_steps, data):
    n_warmup = data.draw(st.integers(0, n_steps - 1))
    rate = cosine_schedule(1.0, 0.1, n_steps, n_warmup=n_warmup)
    assert len(rate) == n_steps
    assert (rate >= 0.0).all()
    assert (rate <= 1.0).all()
    assert rate[n_warmup] == 1.0
    assert (np.diff(rate[n_warmup:]) <= 0).all()


def test_one_step_and_no_ramp_are_allowed():
    assert cosine_schedule(1.0, 0.1, 1).tolist() == [1.0]
    assert linear_schedule(0.04, 0.07, 3, n_ramp=0).tolist() == [0.07] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cosine_schedule(1.0, 0.0, 0), "at least 1"),
        (lambda: cosine_schedule(1.0, 0.0, 10, n_warmup=10), "shorter than the run"),
        (lambda: momentum_schedule(0.996, 1.1, 10), "start <= end <= 1"),
        (lambda: linear_schedule(0.0, 1.0, 10, n_ramp=-1), "not be negative"),
        (lambda: frozen_at_first(np.ones(3), -1), "not be negative"),
        (lambda: scaled_learning_rate(1.0, 0), "at least 1"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
