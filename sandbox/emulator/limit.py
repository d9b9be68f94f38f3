"""The emulator's limit: a token bucket on its monotonic clock."""

from dataclasses import dataclass, field

#: How much later a request that was sent in time may arrive, bunched with the next ones.
JITTER_S = 0.25


def default_capacity(rate: float) -> float:
    """A tenth of a second's requests for bursts, and those that jitter can bunch; at least one of each."""
    return max(1.0, 0.1 * rate) + max(1.0, JITTER_S * rate)


@dataclass
class RequestLimit:
    """Admits at most `capacity` + `rate` x T requests in any T seconds; a refused one takes no token.

    `rate` is in requests per second, None for no limit; without `capacity` it is default_capacity(rate).
    """

    rate: float | None = None
    capacity: float | None = None
    #: Requests refused since the last admitted one, for the count in TMDB's 429 body.
    refused_in_a_row: int = 0
    _tokens: float = field(default=0.0, init=False)
    _filled_at_s: float | None = field(default=None, init=False)

    @property
    def burst(self) -> float:
        """The capacity in force."""
        return self.capacity if self.capacity is not None else default_capacity(self.rate or 0.0)

    def admit(self, now_s: float) -> bool:
        """Take a token; False when there is none. `now_s` is monotonic; the bucket starts full."""
        if self.rate is None:
            return True
        if self._filled_at_s is None:
            self._tokens, self._filled_at_s = self.burst, now_s
        self._tokens = min(self.burst, self._tokens + (now_s - self._filled_at_s) * self.rate)
        self._filled_at_s = now_s
        if self._tokens < 1.0:
            self.refused_in_a_row += 1
            return False
        self._tokens -= 1.0
        self.refused_in_a_row = 0
        return True
