"""What the gate looks like at one moment, as token_bucket.lua tells it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.limiter.rate import Rate


@dataclass(frozen=True)
class GateState:
    """What the gate looks like at this moment."""

    configured: Rate
    #: Share of the configured rate in force, above 0 up to 1.
    share: float
    tokens: int
    #: Seconds until the next token; 0 when there is one.
    next_s: float
    #: Why nothing goes through: "", "throttled", "paused", "outage" or the reason of a stop.
    shut: str
    #: Whether it is shut for a key that was refused.
    stopped: bool
    #: Seconds until it opens by itself; None when it does not, or is open.
    shut_s: float | None
    granted: int
    refused: int
    #: Requests granted, by age in whole seconds (the current second is 0).
    granted_by_age: dict[int, int]

    @property
    def current_per_s(self) -> float:
        """The rate in force, requests a second."""
        return self.configured.per_s * self.share

    def granted_per_s(self, seconds: int) -> float:
        """Requests a second over the last whole `seconds`."""
        return sum(n for age, n in self.granted_by_age.items() if 1 <= age <= seconds) / seconds

    def utilisation(self, seconds: int) -> float:
        """The same, by what the configured rate allows."""
        return self.granted_per_s(seconds) / self.configured.per_s

    @classmethod
    def of(cls, raw: Mapping[str, str]) -> GateState:
        """The state that the script told, value by name."""
        paused_us, closed_us = int(raw["paused_us"]), int(raw["closed_us"])
        shut, shut_s = "", None
        if raw["stop"]:
            shut = raw["stop"]
        elif paused_us:
            shut, shut_s = raw["why"], paused_us / 1e6 if paused_us > 0 else None
        elif closed_us >= 0:
            shut, shut_s = "outage", closed_us / 1e6
        return cls(
            configured=Rate(int(raw["requests"]), int(raw["period_s"])),
            share=int(raw["share"]) / 1000,
            tokens=int(raw["tokens"]),
            next_s=int(raw["next_us"]) / 1e6,
            shut=shut,
            stopped=bool(raw["stop"]),
            shut_s=shut_s,
            granted=int(raw["granted"]),
            refused=int(raw["refused"]),
            granted_by_age=_ages(raw["granted_by_age"]),
        )


def _ages(text: str) -> dict[int, int]:
    return {int(age): int(n) for age, _, n in (pair.partition(":") for pair in text.split(",") if pair)}
