"""The results of benchmarks.limit, and the promises that they keep or break. Pure."""

from dataclasses import dataclass

#: The least utilisation, and the most requests above the worst window's, in seconds of the rate.
UTILISATION, EXCESS_S = 0.99, 0.1
ADAPTED_UTILISATION, ADAPTED_REFUSED = 0.90, 0.01


@dataclass(frozen=True)
class Steady:
    """One run against an API that allows the configured rate."""

    rate: float
    processes: int
    seconds: float
    requests: int
    utilisation: float
    refused: int
    #: Requests above capacity + rate x T in the worst window of T >= 0.1 s; below 0 if no window exceeds it.
    worst_excess: float
    #: The same in milliseconds of the rate.
    worst_excess_ms: float
    least_share: float

    @property
    def kept(self) -> bool:
        return (
            self.utilisation >= UTILISATION
            and self.refused == 0
            and self.worst_excess <= EXCESS_S * self.rate
        )


@dataclass(frozen=True)
class Adaptive:
    """One run against an API whose limit is not the configured one."""

    name: str
    configured: float
    processes: int
    seconds: int
    #: Accepted requests by those that the API would have accepted, in the steady state.
    utilisation: float
    #: Refused requests by all requests, in the steady state.
    refused_share: float
    #: The same for the whole run.
    whole_utilisation: float
    whole_refused_share: float
    #: (seconds since the start, the API's rate from then on).
    limits: list[tuple[int, float]]
    #: Accepted and refused requests in each second.
    accepted: list[int]
    refused: list[int]

    @property
    def kept(self) -> bool:
        return self.utilisation > ADAPTED_UTILISATION and self.refused_share < ADAPTED_REFUSED
