"""The limiter's state at one moment, as token_bucket.lua returns it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from worker.limiter.rate import Rate


@dataclass(frozen=True)
class LimiterState:
    """The limiter's state at one moment."""

    configured: Rate
    #: Share of the configured rate in force, above 0 up to 1.
    share: float
    tokens: int
    #: Seconds until the next token; 0 when there is one.
    next_s: float
    #: Why no request is let through: "", "throttled", "paused", "outage" or the reason of a stop.
    closed_reason: str
    #: Whether it is closed because TMDB rejected the key.
    stopped: bool
    #: Seconds until it opens by itself; None when it does not, or is open.
    closed_s: float | None
    granted: int
    refused: int
    #: Requests granted, by age in whole seconds (the current second is 0).
    granted_by_age: dict[int, int]

    @property
    def current_per_s(self) -> float:
        """The rate in force, in requests per second."""
        return self.configured.per_s * self.share

    def granted_per_s(self, seconds: int) -> float:
        """Requests per second over the last whole `seconds`."""
        return sum(n for age, n in self.granted_by_age.items() if 1 <= age <= seconds) / seconds

    def utilisation(self, seconds: int) -> float:
        """`granted_per_s` divided by the configured rate."""
        return self.granted_per_s(seconds) / self.configured.per_s

    @classmethod
    def of(cls, raw: Mapping[str, str]) -> Self:
        """The state from the script's values by name."""
        paused_us, closed_us = int(raw["paused_us"]), int(raw["closed_us"])
        closed_reason, closed_s = "", None
        if raw["stop"]:
            closed_reason = raw["stop"]
        elif paused_us:
            closed_reason, closed_s = raw["pause_reason"], paused_us / 1e6 if paused_us > 0 else None
        elif closed_us >= 0:
            closed_reason, closed_s = "outage", closed_us / 1e6
        pairs = (pair.partition(":") for pair in raw["granted_by_age"].split(",") if pair)
        return cls(
            configured=Rate(int(raw["requests"]), int(raw["period_s"])),
            share=int(raw["share"]) / 1000,
            tokens=int(raw["tokens"]),
            next_s=int(raw["next_us"]) / 1e6,
            closed_reason=closed_reason,
            stopped=bool(raw["stop"]),
            closed_s=closed_s,
            granted=int(raw["granted"]),
            refused=int(raw["refused"]),
            granted_by_age={int(age): int(n) for age, _, n in pairs},
        )
