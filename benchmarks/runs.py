"""The results of benchmarks.limit and growth, and the promises that they keep or break. Pure."""

from dataclasses import dataclass

#: The least utilisation, and the most requests above the worst window's, in seconds of the rate.
UTILISATION, EXCESS_S = 0.99, 0.1
ADAPTED_UTILISATION, ADAPTED_REFUSED = 0.90, 0.01
#: Bounds: the broker's memory, a worker's growth over 20,000 pages, a backfill with 50,000 pages stored.
BROKER_MB, WORKER_GROWTH, RESUME_S = 32.0, 0.05, 3.0


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


@dataclass(frozen=True)
class Haul:
    """What one backfill cost."""

    workers: int
    movies_before: int
    pages_asked: int
    pages_stored: int
    seconds: float
    pages_per_s: float
    #: The most that Redis used.
    broker_mb: float
    #: A worker's resident memory, the largest: when a quarter was done, and at the end.
    worker_mb: float
    worker_end_mb: float
    #: CPU time a page: of all workers, of MongoDB, of Redis.
    worker_ms: float
    mongo_ms: float
    redis_ms: float

    @property
    def kept(self) -> bool:
        """Whether the bounds hold; a worker's growth is judged from 20,000 pages on."""
        grown = self.worker_end_mb / self.worker_mb - 1
        return self.broker_mb <= BROKER_MB and (self.pages_stored < 20_000 or grown <= WORKER_GROWTH)


@dataclass(frozen=True)
class Resume:
    """Commands of a backfill that has nothing left to do."""

    pages_stored: int
    status_s: float
    resume_s: float
    requests: int

    @property
    def kept(self) -> bool:
        return self.resume_s <= RESUME_S and self.requests == 0
