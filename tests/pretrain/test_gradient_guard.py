"""The guard: what a spike is, what it does not disturb, and when it gives up."""

import math

import pytest

from configs.errors import UserError
from pretrain.gradient_guard import GradientGuard, is_sound


def guard_after(norms, factor=10.0):
    guard = GradientGuard(factor)
    for step, norm in enumerate(norms):
        guard.record(step, norm)
    return guard


def test_before_enough_steps_only_what_is_no_number_is_a_spike():
    guard = guard_after([1.0] * 15)
    assert guard.limit == math.inf
    assert is_sound(1e9, guard.limit)
    assert not is_sound(math.nan, guard.limit)
    assert not is_sound(math.inf, guard.limit)


def test_a_spike_is_ten_times_the_median_and_does_not_move_it():
    guard = guard_after([2.0] * 16)
    assert guard.limit == 20.0
    guard.record(16, 20.5)
    guard.record(17, math.nan)
    assert (guard.limit, guard.skipped) == (20.0, 2)


def test_the_median_follows_a_slow_change():
    assert guard_after([1.0] * 64 + [4.0] * 64).limit == 40.0


def test_factor_zero_lets_every_finite_norm_pass():
    guard = guard_after([1.0] * 40 + [1e30], factor=0.0)
    assert guard.skipped == 0


def test_ten_in_a_row_are_too_many_but_nine_and_a_good_one_are_not():
    guard = guard_after([1.0] * 16 + [99.0] * 9 + [1.0] + [99.0] * 9)
    assert guard.skipped == 18
    with pytest.raises(UserError, match="no step of the last 10 was sound"):
        guard.record(40, 99.0)


def test_a_resumed_guard_goes_on():
    guard = guard_after([1.0] * 20 + [99.0] * 9)
    again = GradientGuard(10.0)
    again.load_state_dict(guard.state_dict())
    assert (again.limit, again.skipped) == (guard.limit, 9)
    with pytest.raises(UserError, match="no step of the last 10"):
        again.record(29, 99.0)
