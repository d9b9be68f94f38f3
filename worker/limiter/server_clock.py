"""Redis' clock as one process sees it, from the calls that it makes anyway. Pure: no I/O."""

from __future__ import annotations

import math
import threading

#: How fast two clocks may drift apart: NTP slews a clock by at most 500 parts in a million.
DRIFT = 5e-4


class ServerClock:
    """Bounds on the offset between Redis' clock and time.monotonic(); safe for threads.

    A call sent at `sent` and answered at `received`, whose script ran when Redis' clock showed `server_s`,
    tells that the offset lies between `server_s - received` and `server_s - sent` (the idea of NTP, RFC 5905,
    section 8). A quick call bounds it tightly, a delayed one loosely and so does no harm. The bounds of all
    calls together hold, widened by what the clocks may have drifted meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._low_s, self._high_s = -math.inf, math.inf
        self._as_of = -math.inf
        #: The time.monotonic() of the last call.
        self.observed = -math.inf

    def observe(self, sent: float, received: float, server_s: float) -> float:
        """Learn from one call; returns by how many seconds Redis' clock leapt before it, mostly 0."""
        low_s, high_s = server_s - received, server_s - sent
        with self._lock:
            self._widen(received)
            self.observed = max(self.observed, received)
            leap_s = max(0.0, low_s - self._high_s) or min(0.0, high_s - self._low_s)
            if leap_s:
                self._low_s, self._high_s = low_s, high_s
            else:
                self._low_s, self._high_s = max(self._low_s, low_s), min(self._high_s, high_s)
        return leap_s

    def error_s(self, now: float) -> float:
        """By how much `local` may be too late at this moment; infinite before the first call."""
        with self._lock:
            self._widen(now)
            return self._high_s - self._low_s

    def local(self, server_s: float) -> float:
        """The time.monotonic() by which Redis' clock surely shows `server_s`; after the first call only."""
        with self._lock:
            return server_s - self._low_s

    def server_s(self, local: float) -> float:
        """What Redis' clock shows at least at that time.monotonic(); after the first call only."""
        with self._lock:
            return local + self._low_s

    def _widen(self, now: float) -> None:
        if now > self._as_of:
            drift_s = DRIFT * (now - self._as_of) if self._as_of > -math.inf else 0.0
            self._low_s, self._high_s, self._as_of = self._low_s - drift_s, self._high_s + drift_s, now
