"""What an API saw: judges a log of arrivals against a limit. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

#: The shortest window that is judged. What scheduling bunches within less is no burst to a server.
SHORTEST_S = 0.1


def worst_excess(
    times: Sequence[float], rate: float, capacity: float, shortest_s: float = SHORTEST_S
) -> float:
    """By how many requests the worst window of T >= `shortest_s` exceeds capacity + rate x T.

    Exact over all windows of a sorted log, in one pass: a window is worst when it begins and ends with an
    arrival, or when it is as short as may be. Below 0 when every window has room left.
    """
    worst = float("-inf")
    first = 0  # oldest arrival less than shortest_s before this one
    lead = float("-inf")  # most that a window which begins before `first` can have: rate x start - its index
    for index, now in enumerate(times):
        while times[first] <= now - shortest_s:
            lead = max(lead, rate * times[first] - first)
            first += 1
        inside = index - first + 1 - rate * shortest_s
        longer = index + 1 - rate * now + lead
        worst = max(worst, inside - capacity, longer - capacity)
    return worst


def utilisation(times: Sequence[float], rate: float, capacity: float) -> float:
    """(arrivals - capacity) / (rate x seconds from first to last): what a bucket may hold does not count."""
    return (len(times) - capacity) / (rate * (times[-1] - times[0]))


def longest_gap(times: Sequence[float]) -> float:
    """Seconds between the two neighbours that are farthest apart."""
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def least_share(arrivals: Sequence[tuple[float, str]], window_s: float = 10.0) -> float:
    """The smallest share of its due that a source gets in any whole window; 1 means its fair part.

    `arrivals` are (time, source); windows begin every second, and the sources are those of the whole log.
    """
    sources = {source for _, source in arrivals}
    begin, end = arrivals[0][0], arrivals[-1][0]
    least = 1.0
    while begin + window_s <= end:
        counts = Counter(source for at, source in arrivals if begin <= at < begin + window_s)
        due = counts.total() / len(sources)
        least = min([least, *(counts[source] / due for source in sources)])
        begin += 1.0
    return least
