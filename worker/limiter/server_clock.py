"""Estimates Redis' clock from the calls that a process makes anyway. Pure."""

import math
import threading

#: How fast two clocks may drift apart: NTP slews a clock by at most 500 parts in a million.
DRIFT = 5e-4


class ServerClock:
    """Bounds on the offset between Redis' clock and time.monotonic(); safe for threads.

    When a call sent at `sent` and answered at `received` ran at `server_s` by Redis' clock, the offset lies
    between `server_s - received` and `server_s - sent` (as in NTP, RFC 5905, section 8). A quick call gives
    tight bounds, a delayed one loose bounds that do no harm. The bounds of all calls are intersected, and
    widened by how far the clocks may have drifted since.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._low_s, self._high_s = -math.inf, math.inf
        self._as_of = -math.inf
        #: time.monotonic() of the last call.
        self.observed = -math.inf

    def observe(self, sent: float, received: float, server_s: float) -> float:
        """Learn from one call; return by how many seconds Redis' clock leapt before it, usually 0."""
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
        """By how many seconds `local` may be too late; infinite before the first call."""
        with self._lock:
            self._widen(now)
            return self._high_s - self._low_s

    def local(self, server_s: float) -> float:
        """The time.monotonic() by which Redis' clock surely shows `server_s`; after the first call only."""
        with self._lock:
            return server_s - self._low_s

    def server_s(self, local: float) -> float:
        """The least that Redis' clock shows at that time.monotonic(); after the first call only."""
        with self._lock:
            return local + self._low_s

    def _widen(self, now: float) -> None:
        if now > self._as_of:
            drift_s = DRIFT * (now - self._as_of) if self._as_of > -math.inf else 0.0
            self._low_s, self._high_s, self._as_of = self._low_s - drift_s, self._high_s + drift_s, now
