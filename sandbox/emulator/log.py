"""A bounded log of every request under /3, and counts."""

from collections import Counter, deque
from dataclasses import dataclass
from itertools import islice
from typing import Any

#: Older arrivals are dropped; their numbers are not used again.
KEPT_ARRIVALS = 1_000_000


@dataclass(slots=True, eq=False)
class Arrival:
    """One request. Times are seconds on the machine's monotonic clock, which all its processes share."""

    number: int
    arrived_s: float
    kind: str
    key: str
    #: None while the request is open, 0 when the connection was cut before a status line.
    status: int | None = None
    duration_s: float | None = None
    fault: str | None = None

    def row(self) -> list[Any]:
        """The fields in the control plane's order."""
        duration_s = None if self.duration_s is None else round(self.duration_s, 6)
        at_s = round(self.arrived_s, 6)
        return [self.number, at_s, self.status, self.kind, self.key, duration_s, self.fault]


class ArrivalLog:
    """Arrivals in order, refused ones too, numbered from 0."""

    def __init__(self, kept: int = KEPT_ARRIVALS) -> None:
        self._kept = kept
        self.open_connections = 0
        self.reset()

    def reset(self) -> None:
        """Clear arrivals, counts and peaks; numbers start at 0 again. Open connections still count."""
        self._arrivals: deque[Arrival] = deque(maxlen=self._kept)
        self._next_number = 0
        self._open: set[Arrival] = set()
        self._by_status: Counter[int] = Counter()
        self._by_kind: Counter[str] = Counter()
        self._by_fault: Counter[str] = Counter()
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._peak_concurrent = 0
        self.peak_connections = self.open_connections

    def arrive(self, kind: str, key: str, now_s: float) -> Arrival:
        """Log a request when its head was read; `finish` completes it."""
        arrival = Arrival(self._next_number, now_s, kind, key)
        self._next_number += 1
        self._arrivals.append(arrival)
        self._by_kind[kind] += 1
        self._first_s = now_s if self._first_s is None else self._first_s
        self._last_s = now_s
        self._open.add(arrival)
        self._peak_concurrent = max(self._peak_concurrent, len(self._open))
        return arrival

    def finish(self, arrival: Arrival, status: int, fault: str | None, now_s: float) -> None:
        """Complete a request: the reply was sent, or the connection was cut (status 0)."""
        arrival.status, arrival.fault, arrival.duration_s = status, fault, now_s - arrival.arrived_s
        if arrival in self._open:  # otherwise the log was reset meanwhile
            self._open.discard(arrival)
            self._by_status[status] += 1
            if fault is not None:
                self._by_fault[fault] += 1

    def connect(self) -> None:
        self.open_connections += 1
        self.peak_connections = max(self.peak_connections, self.open_connections)

    def disconnect(self) -> None:
        self.open_connections -= 1

    def since(self, number: int) -> dict[str, Any]:
        """Arrivals from `number` on: `{next, dropped, arrivals: [row, ...]}`; `next` continues."""
        oldest = self._next_number - len(self._arrivals)
        # From the end, where a deque is fast: a reader who follows the log needs only the newest.
        newest = islice(reversed(self._arrivals), max(0, self._next_number - number))
        rows = [arrival.row() for arrival in newest][::-1]
        return {"next": self._next_number, "dropped": max(0, oldest - number), "arrivals": rows}

    def stats(self) -> dict[str, Any]:
        """Counts since the last reset; times as in Arrival, None before the first one."""
        return {
            "arrivals": self._next_number,
            "open_requests": len(self._open),
            "peak_concurrent_requests": self._peak_concurrent,
            "by_status": {str(status): count for status, count in sorted(self._by_status.items())},
            "by_kind": dict(sorted(self._by_kind.items())),
            "by_fault": dict(sorted(self._by_fault.items())),
            "first_arrival_s": self._first_s,
            "last_arrival_s": self._last_s,
            "open_connections": self.open_connections,
            "peak_connections": self.peak_connections,
        }
