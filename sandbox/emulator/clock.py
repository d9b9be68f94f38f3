"""The emulator's clock: the machine's, moved by an offset, so that days can pass in a test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta


@dataclass
class EmulatorClock:
    """`offset_s` seconds ahead of the machine's clock; may be changed at any time."""

    offset_s: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.offset_s)

    def today(self) -> date:
        return self.now().date()
