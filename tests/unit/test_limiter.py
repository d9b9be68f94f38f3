"""The gate's script against a plain model, in virtual time: any rate, any arrivals, any trouble."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.virtual_gate import KEY, SECOND, VirtualGate
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
#: Microseconds from one call to the next: mostly crowds, now and then a rest.
gaps = st.one_of(st.just(0), st.integers(0, 2_000), st.integers(0, 5 * SECOND), st.integers(0, 3 * HOUR))


class Model:
    """The promise in fractions: a token each interval, and a rest saves up capacity - 1 of them."""

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
    """The most tokens in any window, less those that become due in it: what the capacity must cover.

    A token that is due at a fraction of a microsecond is given at the next whole one: one is allowed for.
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


MakeGate = Callable[[Rate, int], VirtualGate]


@pytest.fixture
def gate_of(client: redis.Redis) -> MakeGate:
    return lambda rate, capacity: VirtualGate(client, rate, capacity)


@ONE_EXAMPLE_AT_A_TIME
@given(
    rates,
    capacities,
    st.lists(st.tuples(gaps, st.sampled_from([0, 10_000, 30 * SECOND, 10**13])), max_size=60),
)
def test_grants_are_the_models_to_the_microsecond(
    gate_of: MakeGate, rate: Rate, capacity: int, calls: list[tuple[int, int]]
) -> None:
    gate = gate_of(rate, capacity)
    gate.state()  # it begins with the first call
    model = Model(rate, capacity, gate.now)
    for gap, longest in calls:
        gate.now += gap
        expected = model.reserve(gate.now, longest)
        verdict, wait, _ = gate.reserve(longest)
        assert (gate.now + wait if verdict == "granted" else None) == expected


@pytest.mark.parametrize(
    "rate", ["1/hour", "1/day", "7/3s", "40/s", "4999/s", "5000/s", "99999/s", "33333.333333"]
)
def test_no_token_is_gained_or_lost_in_a_long_run(gate_of: MakeGate, rate: str) -> None:
    gate = gate_of(Rate.parse(rate), 5)
    interval = Fraction(gate.rate.period_s * SECOND, gate.rate.requests)
    times = gate.saturate(2_000)
    first = gate.now + math.floor(interval)
    assert times == [first + math.ceil(n * interval) for n in range(len(times))]


@ONE_EXAMPLE_AT_A_TIME
@given(rates, capacities)
def test_a_new_gate_is_empty(gate_of: MakeGate, rate: Rate, capacity: int) -> None:
    gate = gate_of(rate, capacity)
    interval = Fraction(gate.rate.period_s * SECOND, gate.rate.requests)
    assert gate.saturate(1) == [gate.now + math.floor(interval)]


def test_a_gate_that_rested_holds_its_capacity_and_no_more(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(10, 1), 5)
    gate.reserve()
    gate.now += HOUR
    assert [at - gate.now for at in gate.saturate(7)] == [0, 0, 0, 0, 0, 100_000, 200_000]


def test_tokens_reserved_ahead_follow_the_rate_as_it_climbs(gate_of: MakeGate) -> None:
    """A crowd that reserves at half the rate must not hold the fleet to that for as long as its queue is."""
    ahead = gate_of(Rate(40, 1), 1)
    _, _, generation = ahead.reserve()
    ahead.now += SECOND
    ahead.call("throttled", generation, SECOND)
    reserved = ahead.saturate(300)
    in_time = gate_of(Rate(40, 1), 1)
    _, _, generation = in_time.reserve()
    in_time.now += SECOND
    in_time.call("throttled", generation, SECOND)
    asked: list[int] = []
    for _ in range(300):
        asked += in_time.saturate(1)
        in_time.now = asked[-1]
    assert reserved == asked


steps = st.tuples(
    st.one_of(st.integers(1_000, 200_000), st.integers(1_000, 3 * SECOND), st.integers(1_000, 90 * SECOND)),
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 20)),
        st.tuples(st.just("reserve"), st.integers(1, 20)),
        st.tuples(st.just("throttled"), st.sampled_from([0, SECOND, 10 * SECOND, 300 * SECOND])),
        st.tuples(st.just("stale 429"), st.sampled_from([SECOND, 300 * SECOND])),
        st.tuples(st.just("set"), st.sampled_from(["1/s", "7/3s", "40/s", "90/s"]).map(Rate.parse)),
        st.tuples(st.just("pause"), st.sampled_from([0, SECOND, 60 * SECOND])),
        st.tuples(st.just("trouble"), st.integers(0, 999)),
        st.tuples(
            st.sampled_from(["resume", "well", "stop", "preflight", "outage", "lose", "flush"]), st.none()
        ),
    ),
)


def shut(gate: VirtualGate) -> None:
    """Three troubles in a row, and the pause that follows."""
    for _ in range(3):
        gate.call("trouble", 10**16, 0, 999)
    gate.now += SECOND


def act(gate: VirtualGate, verb: str, value: Any, generation: int) -> int:
    """One step; returns the generation that a token in flight carries."""
    said: dict[str, tuple[Any, ...]] = {
        "throttled": ("throttled", generation, value),
        "stale 429": ("throttled", generation - 1, value),
        "set": ("set", *(value if verb == "set" else ())),
        "pause": ("pause", value),
        "trouble": ("trouble", generation, 1, value),
        "well": ("well", generation),
        "stop": ("stop", "reason"),
        "resume": ("resume",),
    }
    if verb in said:
        gate.call(*said[verb])
    elif verb == "reserve":
        return [gate.reserve(10**15)[2] for _ in range(value)][-1]
    elif verb == "preflight":
        return gate.acquire_for_key_check(10**15)[2]
    elif verb == "outage":
        shut(gate)
        _, wait, generation = gate.reserve(10**15)
        gate.now += wait
        gate.call("well", generation)
    elif verb == "lose":
        gate.client.delete(KEY)
    else:
        gate.client.script_flush()
    return generation


@settings(ONE_EXAMPLE_AT_A_TIME, max_examples=120)
@given(
    st.sampled_from(["1/s", "7/3s", "40/s"]).map(Rate.parse), st.integers(1, 8), st.lists(steps, max_size=40)
)
def test_whatever_happens_lets_no_burst_through(
    gate_of: MakeGate, rate: Rate, capacity: int, calls: list[tuple[int, tuple[str, Any]]]
) -> None:
    gate = gate_of(rate, capacity)
    asked = [rate, *(value for _, (verb, value) in calls if verb == "set")]
    interval = min(Fraction(one.period_s * SECOND, one.requests) for one in asked)
    generation = 0
    for gap, (verb, value) in calls:
        gate.now += gap
        generation = act(gate, verb, value, generation)
    assert fullest([grant.at for grant in gate.grants], interval) <= capacity


def test_two_failures_close_nothing(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    _, _, generation = gate.reserve()
    for _ in range(3):
        gate.call("trouble", generation, 0, 500)
        gate.call("trouble", generation, 0, 500)
        assert gate.reserve()[0] == "granted"
        gate.call("well", generation)


def test_a_single_probe_goes_through_a_closed_gate(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    gate.reserve()
    shut(gate)
    assert [gate.reserve()[0] for _ in range(5)] == ["probe", "closed", "closed", "closed", "closed"]


def test_a_probe_that_never_reports_is_followed_by_another(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    gate.reserve()
    shut(gate)
    gate.reserve()
    verdict, wait, _ = gate.reserve()
    assert verdict == "closed"
    assert 14 * SECOND <= wait <= 16 * SECOND
    gate.now += wait
    assert gate.reserve()[0] == "probe"


def test_a_refused_probe_ends_the_outage(gate_of: MakeGate) -> None:
    """429 is an answer: the API is back, and its pause is all that there is to wait for."""
    gate = gate_of(Rate(40, 1), 5)
    gate.reserve()
    shut(gate)
    _, _, generation = gate.reserve()
    gate.call("throttled", generation, SECOND)
    gate.now += SECOND
    assert gate.reserve()[0] == "granted"


def test_a_late_429_from_before_an_outage_does_not_open_the_gate(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    _, _, generation = gate.reserve()
    shut(gate)
    gate.reserve()
    gate.call("throttled", generation, SECOND)
    gate.now += 2 * SECOND
    assert gate.reserve()[0] == "closed"


def test_pauses_of_an_outage_grow_and_end(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    gate.reserve()
    for _ in range(3):
        gate.call("trouble", 10**16, 0, 500)
    pauses = []
    for _ in range(10):
        _, wait, _ = gate.reserve()
        pauses.append(wait)
        gate.now += wait
        assert gate.reserve()[0] == "probe"
        gate.call("trouble", 10**16, 1, 500)
    assert pauses[0] < SECOND
    assert pauses[:6] == [pauses[0] * 2**number for number in range(6)]
    assert 20 * SECOND < pauses[-1] == pauses[-2] < 31 * SECOND


@ONE_EXAMPLE_AT_A_TIME
@given(
    st.lists(st.one_of(st.integers(-(10**13), 10**13), st.integers(-(10**6), 10**6)), min_size=1, max_size=5),
    st.integers(0, 50),
    st.sampled_from(["reserve", "throttled", "outage", "pause"]),
)
def test_a_clock_that_leaps_delays_nothing(
    gate_of: MakeGate, leaps: list[int], ahead: int, trouble: str
) -> None:
    """Back: as if it had not leapt. Forward: what was waited for may come early, by a bucketful at most."""
    waits: list[int] = []
    for leaping in (False, True):
        gate = gate_of(Rate(7, 3), 5)
        for _ in range(ahead):
            gate.reserve(10**15)
        _, _, generation = gate.reserve(10**15)
        if trouble == "outage":
            for _ in range(3):
                gate.call("trouble", 10**16, 0, 500)
        elif trouble != "reserve":
            gate.call(trouble, *([generation] if trouble == "throttled" else []), 20 * SECOND)
        for leap in leaps:
            gate.clock_error += leap if leaping else 0
            gate.state()
        waits.append(gate.reserve(10**15)[1])
    if max(leaps) <= 0:
        assert waits[1] == waits[0]
    else:
        assert waits[1] <= waits[0]


def test_reservations_from_before_a_loss_are_void_even_if_the_new_clock_is_behind(gate_of: MakeGate) -> None:
    """A Redis that lost its data on a machine whose clock is late: no generation may repeat."""
    gate = gate_of(Rate(40, 1), 5)
    heard = gate.reserve()[2]
    gate.client.delete(KEY)
    gate.clock_error -= HOUR
    gate.reserve()
    verdict, wait, generation = gate.reserve(heard=heard)
    assert generation > heard
    assert (verdict, wait) == ("granted", 25_000)


def cut_gate(gate_of: MakeGate) -> tuple[VirtualGate, int]:
    """A gate that was refused just now, with a pause of a second, and the refused token's generation."""
    gate = gate_of(Rate(40, 1), 5)
    _, _, generation = gate.reserve()
    gate.now += SECOND
    gate.call("throttled", generation, SECOND)
    return gate, generation


def share(gate: VirtualGate) -> int:
    return int(gate.state()["share"])


def test_a_refusal_pauses_all_and_halves_the_rate(gate_of: MakeGate) -> None:
    gate, _ = cut_gate(gate_of)
    assert gate.reserve()[1] == SECOND
    assert share(gate) == 500


def test_all_refusals_of_one_pause_halve_the_rate_once(gate_of: MakeGate) -> None:
    gate, generation = cut_gate(gate_of)
    for _ in range(5):
        gate.now += 10_000
        gate.call("throttled", generation, SECOND)
    assert share(gate) == 500


def test_a_longer_pause_than_the_present_one_counts(gate_of: MakeGate) -> None:
    gate, generation = cut_gate(gate_of)
    gate.call("throttled", generation, 60 * SECOND)
    assert gate.reserve(10**15)[1] == 60 * SECOND
    assert share(gate) == 500


def test_a_shorter_pause_than_the_present_one_does_not_count(gate_of: MakeGate) -> None:
    gate, generation = cut_gate(gate_of)
    gate.call("throttled", generation, 60 * SECOND)
    gate.call("throttled", generation, SECOND)
    assert gate.reserve(10**15)[1] == 60 * SECOND


def test_a_refusal_after_a_pause_halves_the_rate_again(gate_of: MakeGate) -> None:
    gate, _ = cut_gate(gate_of)
    gate.now += SECOND
    _, _, generation = gate.reserve()
    gate.call("throttled", generation, SECOND)
    assert share(gate) == 250


def test_the_rate_climbs_back_within_a_minute_and_never_above(gate_of: MakeGate) -> None:
    gate, _ = cut_gate(gate_of)
    shares = []
    for _ in range(90):
        gate.now += SECOND
        shares.append(share(gate))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (500, 1000)
    assert 40 <= shares.index(1000) <= 62


@ONE_EXAMPLE_AT_A_TIME
@given(st.lists(st.integers(0, 100 * SECOND), min_size=1, max_size=12))
def test_the_share_is_never_above_the_configured_rate_and_never_nothing(
    gate_of: MakeGate, gaps_between_refusals: list[int]
) -> None:
    gate = gate_of(Rate(40, 1), 5)
    for gap in gaps_between_refusals:
        gate.now += gap
        _, _, generation = gate.reserve(10**15)
        gate.call("throttled", generation, SECOND)
        assert 1 <= share(gate) <= 1000
    gate.now += 62 * SECOND
    assert share(gate) == 1000


def test_a_pause_by_hand_outlasts_a_refusal(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    _, _, generation = gate.reserve()
    gate.call("pause", 0)
    gate.call("throttled", generation, SECOND)
    gate.now += 2 * SECOND
    assert gate.reserve()[0] == "closed"
    gate.call("resume")
    assert gate.reserve()[0] == "granted"


def test_a_timed_pause_by_hand_is_not_shortened_by_a_refusal(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    gate.call("pause", 60 * SECOND)
    _, _, generation = gate.acquire_for_key_check(10**15)
    gate.call("throttled", generation, SECOND)
    gate.now += 10 * SECOND
    assert gate.reserve(20 * SECOND)[0] == "closed"


def test_a_new_rate_holds_from_now_on_and_can_be_taken_back(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    gate.call("set", 2, 1)
    assert [at - gate.now for at in gate.saturate(3)] == [500_000, 1_000_000, 1_500_000]
    gate.call("set", 0, 0)
    assert gate.state()["requests"] == "40"


def test_a_faster_rate_does_not_wait_for_a_slow_ones_token(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(1, 3600), 5)
    gate.reserve()
    gate.call("set", 40, 1)
    assert gate.reserve()[1] == 25_000


def test_a_pause_outlasts_a_new_rate(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(40, 1), 5)
    gate.call("pause", 10 * SECOND)
    gate.call("set", 20, 1)
    assert gate.reserve()[1] >= 10 * SECOND


def test_late_failures_from_an_outage_that_is_over_do_not_close_the_gate_again(gate_of: MakeGate) -> None:
    """What hung when the API went down times out when it is back."""
    gate = gate_of(Rate(40, 1), 5)
    _, _, old = gate.reserve()
    shut(gate)
    _, _, probe = gate.reserve()
    gate.call("well", probe)
    for _ in range(10):
        gate.call("trouble", old, 0, 500)
    gate.now += SECOND
    assert gate.reserve()[0] == "granted"


def test_the_history_knows_nothing_of_tokens_that_were_voided(gate_of: MakeGate) -> None:
    gate = gate_of(Rate(2, 1), 5)
    gate.saturate(40)
    gate.now += 5 * SECOND
    gate.call("pause", 60 * SECOND)
    ages = dict(pair.split(":") for pair in gate.state()["granted_by_age"].split(","))
    assert set(ages) <= {"5", "4", "3", "2", "1", "0"}
    assert sum(int(ages[str(age)]) for age in range(1, 5)) == 8
