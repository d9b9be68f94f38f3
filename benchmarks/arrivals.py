"""Judges a log of arrivals at an API against a limit. Pure."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

#: The shortest window that is judged; requests that scheduling bunches within less are no burst to a server.
SHORTEST_S = 0.1


def worst_excess(
    times: Sequence[float], rate: float, capacity: float, shortest_s: float = SHORTEST_S
) -> float:
    """By how many requests the worst window of T >= `shortest_s` exceeds capacity + rate x T.

    Exact for all windows of a sorted log, in one pass: the worst window begins and ends with an arrival, or
    is `shortest_s` long. Below 0 when no window exceeds it.
    """
    worst = float("-inf")
    first = 0  # oldest arrival less than shortest_s before this one
    lead = float("-inf")  # maximum of rate x start - index over the windows that begin before `first`
    for index, now in enumerate(times):
        while times[first] <= now - shortest_s:
            lead = max(lead, rate * times[first] - first)
            first += 1
        inside = index - first + 1 - rate * shortest_s
        longer = index + 1 - rate * now + lead
        worst = max(worst, inside - capacity, longer - capacity)
    return worst


def utilisation(times: Sequence[float], rate: float, capacity: float) -> float:
    """(arrivals - capacity) / (rate x seconds from first to last): the initial burst does not count."""
    return (len(times) - capacity) / (rate * (times[-1] - times[0]))


def longest_gap(times: Sequence[float]) -> float:
    """The longest time between two arrivals, in seconds."""
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def least_share(arrivals: Sequence[tuple[float, str]], window_s: float = 10.0) -> float:
    """The least that any source gets in any whole window, as a share of its fair part.

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
