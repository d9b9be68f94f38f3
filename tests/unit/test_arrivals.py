"""The judge of arrival logs, compared with counting every window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.arrivals import SHORTEST_S, least_share, longest_gap, utilisation, worst_excess

times = st.lists(st.integers(0, 5_000).map(lambda ms: ms / 1000), min_size=1, max_size=30).map(sorted)


@given(times, st.sampled_from([1.0, 10.0, 40.0]), st.integers(1, 5))
def test_the_worst_window_is_found(times: list[float], rate: float, capacity: int) -> None:
    every = [
        sum(begin <= at <= end for at in times) - capacity - rate * max(SHORTEST_S, end - begin)
        for begin in times
        for end in times
        if begin <= end
    ]
    # The shortest window can begin anywhere; with an arrival is the worst case.
    every += [
        sum(begin <= at < begin + SHORTEST_S for at in times) - capacity - rate * SHORTEST_S
        for begin in times
    ]
    assert worst_excess(times, rate, capacity) == pytest.approx(max(every))


def test_an_even_stream_has_no_excess_and_full_utilisation() -> None:
    times = [n / 40 for n in range(400)]
    assert worst_excess(times, rate=40, capacity=5) < 0
    assert utilisation(times, rate=40, capacity=1) == pytest.approx(1.0)


def test_a_burst_stands_out() -> None:
    times = [n / 40 for n in range(400)] + [10.0] * 20
    assert worst_excess(times, rate=40, capacity=5) >= 14


def test_gaps_and_shares() -> None:
    arrivals = [(n / 10, "ab"[n % 2]) for n in range(300)]
    assert longest_gap([at for at, _ in arrivals]) == pytest.approx(0.1)
    assert least_share(arrivals) == pytest.approx(1.0)
    assert least_share([one for one in arrivals if one[1] == "a" or one[0] < 10]) == 0.0
