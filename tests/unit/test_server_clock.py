"""Estimates of Redis' clock: bounds, quick and slow calls, drift, leaps."""

import math

from hypothesis import given
from hypothesis import strategies as st

from worker.limiter.server_clock import DRIFT, ServerClock

OFFSET_S = 1_790_000_000.0
#: The rounding of floats of this size.
ROUNDING_S = 1e-5

delays = st.floats(0, 2.0)
calls = st.lists(st.tuples(st.floats(0, 30), delays, delays), min_size=1, max_size=30)


@given(calls)
def test_local_is_never_too_early_and_at_most_the_error_too_late(
    made: list[tuple[float, float, float]],
) -> None:
    clock, now = ServerClock(), 1_000.0
    for gap_s, request_s, reply_s in made:
        sent = now + gap_s
        now = sent + request_s + reply_s
        assert clock.observe(sent, now, sent + request_s + OFFSET_S) == 0
    late_s = clock.local(now + OFFSET_S) - now
    assert -ROUNDING_S <= late_s <= clock.error_s(now) + ROUNDING_S


def test_one_quick_call_is_enough_and_a_slow_one_does_no_harm() -> None:
    clock = ServerClock()
    assert clock.error_s(1.0) == math.inf
    clock.observe(1.0, 1.001, 1.0005 + OFFSET_S)
    clock.observe(2.0, 2.8, 2.0 + OFFSET_S)
    assert clock.error_s(2.8) < 0.001 + 2 * DRIFT * 1.8 + ROUNDING_S


def test_the_error_grows_with_time() -> None:
    clock = ServerClock()
    clock.observe(1.0, 1.001, 1.0005 + OFFSET_S)
    assert clock.error_s(101.0) > 2 * DRIFT * 99


def test_a_leap_is_reported_once_with_its_length() -> None:
    clock = ServerClock()
    clock.observe(1.0, 1.001, 1.0005 + OFFSET_S)
    assert abs(clock.observe(1.1, 1.101, 1.1005 + OFFSET_S + 3) - 3) < 0.01
    assert clock.observe(1.2, 1.201, 1.2005 + OFFSET_S + 3) == 0
    assert abs(clock.observe(1.3, 1.301, 1.3005 + OFFSET_S - 7) + 10) < 0.01
