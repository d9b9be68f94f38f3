"""token_bucket.lua in virtual time: against a model, and under random sequences of events."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.virtual_limiter import KEY, SECOND, VirtualLimiter
from worker.limiter.rate import Rate

HOUR = 3600 * SECOND

ONE_EXAMPLE_AT_A_TIME = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

rates = st.one_of(
    st.sampled_from(["1/hour", "1/s", "35/s", "40/10s", "200/s", "5000/s", "1/day", "100000/s"]).map(
        Rate.parse
    ),
    st.builds(lambda n: Rate.parse(f"{n}/s"), st.integers(1, 5000)),
    st.builds(
        lambda n, s: Rate.parse(f"{n}/{s}s"), st.integers(1, 300), st.sampled_from([2, 4, 5, 8, 10, 16])
    ),
)
capacities = st.integers(1, 40)
#: Microseconds between calls: mostly crowds, sometimes an idle time.
gaps = st.one_of(st.just(0), st.integers(0, 2_000), st.integers(0, 5 * SECOND), st.integers(0, 3 * HOUR))


class Model:
    """The promise in fractions: a token per interval; an idle bucket saves up capacity - 1 of them."""

    def __init__(self, rate: Rate, capacity: int, now: int) -> None:
        self.interval = Fraction(rate.period_s * SECOND, rate.requests)
        self.saved = math.floor((capacity - 1) * self.interval)
        self.due = Fraction(now + math.floor(self.interval))

    def reserve(self, now: int, longest: int) -> int | None:
        self.due = max(self.due, Fraction(now - self.saved))
        at = max(now, math.ceil(self.due))
        if at - now > longest:
            return None
        self.due += self.interval
        return at


def fullest(times: list[int], interval: Fraction) -> Fraction:
    """The most tokens in any window beyond rate x T: what the capacity must cover.

    Windows count one microsecond longer, because a token due at a fraction of one is granted at the next.
    """
    worst = lead = Fraction(-(10**30))
    for index, at in enumerate(sorted(times)):
        lead = max(lead, at / interval - index)
        worst = max(worst, index + 1 + lead - (at + 1) / interval)
    return worst


@pytest.fixture
def client(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url) as client:
        yield client


MakeLimiter = Callable[[Rate, int], VirtualLimiter]


@pytest.fixture
def limiter_with(client: redis.Redis) -> MakeLimiter:
    return lambda rate, capacity: VirtualLimiter(client, rate, capacity)


def refused_limiter(limiter_with: MakeLimiter) -> tuple[VirtualLimiter, int]:
    """A limiter just after a refusal with a pause of 1 s, and the refused token's generation."""
    limiter = limiter_with(Rate(40, 1), 5)
    _, _, generation = limiter.reserve()
    limiter.now += SECOND
    limiter.call("refused", generation, SECOND)
    return limiter, generation


@ONE_EXAMPLE_AT_A_TIME
@given(
    rates,
    capacities,
    st.lists(st.tuples(gaps, st.sampled_from([0, 10_000, 30 * SECOND, 10**13])), max_size=60),
)
def test_grants_match_the_model_to_the_microsecond(
    limiter_with: MakeLimiter, rate: Rate, capacity: int, calls: list[tuple[int, int]]
) -> None:
    limiter = limiter_with(rate, capacity)
    limiter.state()  # the first call starts the schedule
    model = Model(rate, capacity, limiter.now)
    for gap, longest in calls:
        limiter.now += gap
        expected = model.reserve(limiter.now, longest)
        verdict, wait, _ = limiter.reserve(longest)
        assert (limiter.now + wait if verdict == "granted" else None) == expected


@pytest.mark.parametrize(
    "rate", ["1/hour", "1/day", "7/3s", "40/s", "4999/s", "5000/s", "99999/s", "33333.333333"]
)
def test_no_token_is_gained_or_lost_in_a_long_run(limiter_with: MakeLimiter, rate: str) -> None:
    limiter = limiter_with(Rate.parse(rate), 5)
    interval = Fraction(limiter.rate.period_s * SECOND, limiter.rate.requests)
    times = limiter.saturate(2_000)
    first = limiter.now + math.floor(interval)
    assert times == [first + math.ceil(n * interval) for n in range(len(times))]


@ONE_EXAMPLE_AT_A_TIME
@given(rates, capacities)
def test_a_new_bucket_is_empty(limiter_with: MakeLimiter, rate: Rate, capacity: int) -> None:
    limiter = limiter_with(rate, capacity)
    interval = Fraction(limiter.rate.period_s * SECOND, limiter.rate.requests)
    assert limiter.saturate(1) == [limiter.now + math.floor(interval)]


def test_an_idle_bucket_fills_to_its_capacity(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(10, 1), 5)
    limiter.reserve()
    limiter.now += HOUR
    assert [at - limiter.now for at in limiter.saturate(7)] == [0, 0, 0, 0, 0, 100_000, 200_000]


def test_tokens_reserved_ahead_follow_the_rising_rate(limiter_with: MakeLimiter) -> None:
    """Callers that reserve far ahead while the rate is halved must not keep it halved."""
    ahead, _ = refused_limiter(limiter_with)
    reserved_ahead = ahead.saturate(300)
    in_time, _ = refused_limiter(limiter_with)
    reserved_in_time: list[int] = []
    for _ in range(300):
        reserved_in_time += in_time.saturate(1)
        in_time.now = reserved_in_time[-1]
    assert reserved_ahead == reserved_in_time


steps = st.tuples(
    st.one_of(st.integers(1_000, 200_000), st.integers(1_000, 3 * SECOND), st.integers(1_000, 90 * SECOND)),
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 20)),
        st.tuples(st.just("reserve"), st.integers(1, 20)),
        st.tuples(st.just("refused"), st.sampled_from([0, SECOND, 10 * SECOND, 300 * SECOND])),
        st.tuples(st.just("stale 429"), st.sampled_from([SECOND, 300 * SECOND])),
        st.tuples(st.just("set_rate"), st.sampled_from(["1/s", "7/3s", "40/s", "90/s"]).map(Rate.parse)),
        st.tuples(st.just("pause"), st.sampled_from([0, SECOND, 60 * SECOND])),
        st.tuples(st.just("failure"), st.integers(0, 999)),
        st.tuples(
            st.sampled_from(
                ["resume", "success", "stop", "reserve_for_key_check", "outage", "lose", "flush"]
            ),
            st.none(),
        ),
    ),
)


def begin_outage(limiter: VirtualLimiter) -> None:
    """Three failures in a row, and the pause that follows."""
    for _ in range(3):
        limiter.call("failure", 10**16, 0, 999)
    limiter.now += SECOND


def act(limiter: VirtualLimiter, verb: str, value: Any, generation: int) -> int:
    """Do one step; return the generation of a token in flight."""
    calls: dict[str, tuple[Any, ...]] = {
        "refused": ("refused", generation, value),
        "stale 429": ("refused", generation - 1, value),
        "set_rate": ("set_rate", *(value if verb == "set_rate" else ())),
        "pause": ("pause", value),
        "failure": ("failure", generation, 1, value),
        "success": ("success", generation),
        "stop": ("stop", "reason"),
        "resume": ("resume",),
    }
    if verb in calls:
        limiter.call(*calls[verb])
    elif verb == "reserve":
        return [limiter.reserve(10**15)[2] for _ in range(value)][-1]
    elif verb == "reserve_for_key_check":
        return limiter.reserve_for_key_check(10**15)[2]
    elif verb == "outage":
        begin_outage(limiter)
        _, wait, generation = limiter.reserve(10**15)
        limiter.now += wait
        limiter.call("success", generation)
    elif verb == "lose":
        limiter.client.delete(KEY)
    else:
        limiter.client.script_flush()
    return generation


@settings(ONE_EXAMPLE_AT_A_TIME, max_examples=120)
@given(
    st.sampled_from(["1/s", "7/3s", "40/s"]).map(Rate.parse), st.integers(1, 8), st.lists(steps, max_size=40)
)
def test_no_sequence_of_events_lets_a_burst_through(
    limiter_with: MakeLimiter, rate: Rate, capacity: int, calls: list[tuple[int, tuple[str, Any]]]
) -> None:
    limiter = limiter_with(rate, capacity)
    configured = [rate, *(value for _, (verb, value) in calls if verb == "set_rate")]
    interval = min(Fraction(one.period_s * SECOND, one.requests) for one in configured)
    generation = 0
    for gap, (verb, value) in calls:
        limiter.now += gap
        generation = act(limiter, verb, value, generation)
    assert fullest([grant.at for grant in limiter.grants], interval) <= capacity


def test_two_failures_in_a_row_do_not_close_the_limiter(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    _, _, generation = limiter.reserve()
    for _ in range(3):
        limiter.call("failure", generation, 0, 500)
        limiter.call("failure", generation, 0, 500)
        assert limiter.reserve()[0] == "granted"
        limiter.call("success", generation)


def test_one_probe_at_a_time_passes_a_closed_limiter(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.reserve()
    begin_outage(limiter)
    assert [limiter.reserve()[0] for _ in range(5)] == ["probe", "closed", "closed", "closed", "closed"]


def test_a_probe_that_never_reports_is_followed_by_another(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.reserve()
    begin_outage(limiter)
    limiter.reserve()
    verdict, wait, _ = limiter.reserve()
    assert verdict == "closed"
    assert 14 * SECOND <= wait <= 16 * SECOND
    limiter.now += wait
    assert limiter.reserve()[0] == "probe"


def test_a_refused_probe_ends_the_outage(limiter_with: MakeLimiter) -> None:
    """A 429 shows that TMDB is back; only its pause is waited for."""
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.reserve()
    begin_outage(limiter)
    _, _, generation = limiter.reserve()
    limiter.call("refused", generation, SECOND)
    limiter.now += SECOND
    assert limiter.reserve()[0] == "granted"


def test_a_late_429_from_before_an_outage_does_not_end_it(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    _, _, generation = limiter.reserve()
    begin_outage(limiter)
    limiter.reserve()
    limiter.call("refused", generation, SECOND)
    limiter.now += 2 * SECOND
    assert limiter.reserve()[0] == "closed"


def test_pauses_between_probes_double_up_to_a_maximum(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.reserve()
    for _ in range(3):
        limiter.call("failure", 10**16, 0, 500)
    pauses = []
    for _ in range(10):
        _, wait, _ = limiter.reserve()
        pauses.append(wait)
        limiter.now += wait
        assert limiter.reserve()[0] == "probe"
        limiter.call("failure", 10**16, 1, 500)
    assert pauses[0] < SECOND
    assert pauses[:6] == [pauses[0] * 2**number for number in range(6)]
    assert 20 * SECOND < pauses[-1] == pauses[-2] < 31 * SECOND


@ONE_EXAMPLE_AT_A_TIME
@given(
    st.lists(st.one_of(st.integers(-(10**13), 10**13), st.integers(-(10**6), 10**6)), min_size=1, max_size=5),
    st.integers(0, 50),
    st.sampled_from(["reserve", "refused", "outage", "pause"]),
)
def test_a_leap_of_the_clock_delays_no_token(
    limiter_with: MakeLimiter, leaps: list[int], ahead: int, event: str
) -> None:
    """A leap back changes nothing. After a leap forward a token may come early, by at most a bucketful."""
    waits: list[int] = []
    for leaping in (False, True):
        limiter = limiter_with(Rate(7, 3), 5)
        for _ in range(ahead):
            limiter.reserve(10**15)
        _, _, generation = limiter.reserve(10**15)
        if event == "outage":
            for _ in range(3):
                limiter.call("failure", 10**16, 0, 500)
        elif event != "reserve":
            limiter.call(event, *([generation] if event == "refused" else []), 20 * SECOND)
        for leap in leaps:
            limiter.clock_error += leap if leaping else 0
            limiter.state()
        waits.append(limiter.reserve(10**15)[1])
    if max(leaps) <= 0:
        assert waits[1] == waits[0]
    else:
        assert waits[1] <= waits[0]


def test_reservations_from_before_a_data_loss_are_void_even_if_the_new_clock_is_behind(
    limiter_with: MakeLimiter,
) -> None:
    """Redis lost its data, and the clock of its machine is behind: no generation may repeat."""
    limiter = limiter_with(Rate(40, 1), 5)
    known = limiter.reserve()[2]
    limiter.client.delete(KEY)
    limiter.clock_error -= HOUR
    limiter.reserve()
    verdict, wait, generation = limiter.reserve(known=known)
    assert generation > known
    assert (verdict, wait) == ("granted", 25_000)


def share(limiter: VirtualLimiter) -> int:
    return int(limiter.state()["share"])


def test_a_refusal_pauses_the_fleet_and_halves_the_rate(limiter_with: MakeLimiter) -> None:
    limiter, _ = refused_limiter(limiter_with)
    assert limiter.reserve()[1] == SECOND
    assert share(limiter) == 500


def test_refusals_within_one_pause_halve_the_rate_once(limiter_with: MakeLimiter) -> None:
    limiter, generation = refused_limiter(limiter_with)
    for _ in range(5):
        limiter.now += 10_000
        limiter.call("refused", generation, SECOND)
    assert share(limiter) == 500


def test_a_longer_pause_replaces_the_current_one(limiter_with: MakeLimiter) -> None:
    limiter, generation = refused_limiter(limiter_with)
    limiter.call("refused", generation, 60 * SECOND)
    assert limiter.reserve(10**15)[1] == 60 * SECOND
    assert share(limiter) == 500


def test_a_shorter_pause_does_not_replace_the_current_one(limiter_with: MakeLimiter) -> None:
    limiter, generation = refused_limiter(limiter_with)
    limiter.call("refused", generation, 60 * SECOND)
    limiter.call("refused", generation, SECOND)
    assert limiter.reserve(10**15)[1] == 60 * SECOND


def test_a_refusal_after_a_pause_halves_the_rate_again(limiter_with: MakeLimiter) -> None:
    limiter, _ = refused_limiter(limiter_with)
    limiter.now += SECOND
    _, _, generation = limiter.reserve()
    limiter.call("refused", generation, SECOND)
    assert share(limiter) == 250


def test_the_rate_is_restored_within_a_minute(limiter_with: MakeLimiter) -> None:
    limiter, _ = refused_limiter(limiter_with)
    shares = []
    for _ in range(90):
        limiter.now += SECOND
        shares.append(share(limiter))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (500, 1000)
    assert 40 <= shares.index(1000) <= 62


@ONE_EXAMPLE_AT_A_TIME
@given(st.lists(st.integers(0, 100 * SECOND), min_size=1, max_size=12))
def test_the_share_stays_above_0_and_at_most_1(
    limiter_with: MakeLimiter, gaps_between_refusals: list[int]
) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    for gap in gaps_between_refusals:
        limiter.now += gap
        _, _, generation = limiter.reserve(10**15)
        limiter.call("refused", generation, SECOND)
        assert 1 <= share(limiter) <= 1000
    limiter.now += 62 * SECOND
    assert share(limiter) == 1000


def test_a_manual_pause_outlasts_a_refusal(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    _, _, generation = limiter.reserve()
    limiter.call("pause", 0)
    limiter.call("refused", generation, SECOND)
    limiter.now += 2 * SECOND
    assert limiter.reserve()[0] == "closed"
    limiter.call("resume")
    assert limiter.reserve()[0] == "granted"


def test_a_timed_manual_pause_is_not_shortened_by_a_refusal(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.call("pause", 60 * SECOND)
    _, _, generation = limiter.reserve_for_key_check(10**15)
    limiter.call("refused", generation, SECOND)
    limiter.now += 10 * SECOND
    assert limiter.reserve(20 * SECOND)[0] == "closed"


def test_a_new_rate_takes_effect_at_once_and_can_be_undone(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.call("set_rate", 2, 1)
    assert [at - limiter.now for at in limiter.saturate(3)] == [500_000, 1_000_000, 1_500_000]
    limiter.call("set_rate", 0, 0)
    assert limiter.state()["requests"] == "40"


def test_a_faster_rate_does_not_wait_for_a_token_of_the_slower_one(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(1, 3600), 5)
    limiter.reserve()
    limiter.call("set_rate", 40, 1)
    assert limiter.reserve()[1] == 25_000


def test_a_new_rate_does_not_end_a_pause(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.call("pause", 10 * SECOND)
    limiter.call("set_rate", 20, 1)
    assert limiter.reserve()[1] >= 10 * SECOND


def test_late_failures_from_a_past_outage_do_not_close_the_limiter(limiter_with: MakeLimiter) -> None:
    """Requests that hung when TMDB went down time out when it is back."""
    limiter = limiter_with(Rate(40, 1), 5)
    _, _, old = limiter.reserve()
    begin_outage(limiter)
    _, _, probe = limiter.reserve()
    limiter.call("success", probe)
    for _ in range(10):
        limiter.call("failure", old, 0, 500)
    limiter.now += SECOND
    assert limiter.reserve()[0] == "granted"


def test_the_history_omits_voided_tokens(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(2, 1), 5)
    limiter.saturate(40)
    limiter.now += 5 * SECOND
    limiter.call("pause", 60 * SECOND)
    ages = dict(pair.split(":") for pair in limiter.state()["granted_by_age"].split(","))
    assert set(ages) <= {"5", "4", "3", "2", "1", "0"}
    assert sum(int(ages[str(age)]) for age in range(1, 5)) == 8


def test_the_strictest_configuration_applies_to_the_fleet(limiter_with: MakeLimiter) -> None:
    strict, lax = limiter_with(Rate(35, 1), 5), limiter_with(Rate(100, 1), 100)
    lax.reserve()
    strict.reserve()
    lax.now += 50 * SECOND  # the strict one was used within the last minute
    waits = [lax.reserve()[1] for _ in range(7)]
    assert max(waits[:5]) <= 1  # a token due at a fraction of a microsecond
    assert waits[5] > 1
    assert waits[6] - waits[5] == pytest.approx(SECOND / 35, abs=2)


def test_an_unused_configuration_is_forgotten(limiter_with: MakeLimiter) -> None:
    old, new = limiter_with(Rate(10, 1), 2), limiter_with(Rate(40, 1), 5)
    old.reserve()
    new.now += 30 * SECOND
    new.reserve()
    assert new.state()["requests"] == "10"
    new.now += 40 * SECOND
    new.reserve()
    assert new.state()["requests"] == "40"


def test_one_caller_per_minute_checks_a_rejected_key(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.reserve()
    limiter.call("stop", "the key was rejected")
    assert limiter.reserve()[0] == "closed"
    limiter.now += 60 * SECOND
    assert [limiter.reserve()[0] for _ in range(3)] == ["key", "closed", "closed"]
    limiter.now += 60 * SECOND
    verdict, _, generation = limiter.reserve()
    assert verdict == "key"
    limiter.call("success", generation)
    assert limiter.reserve()[0] == "granted"


def test_a_manual_pause_holds_the_key_check_too(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with(Rate(40, 1), 5)
    limiter.call("stop", "the key was rejected")
    limiter.call("pause", 0)
    limiter.now += 60 * SECOND
    assert limiter.reserve()[0] == "closed"
    assert limiter.reserve_for_key_check()[0] == "closed"
