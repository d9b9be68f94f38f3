"""The emulator's clock: the machine's plus an offset, so that tests can let days pass."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta


@dataclass
class EmulatorClock:
    """`offset_s` seconds ahead of the machine's clock; the offset may change at any time."""

    offset_s: float = 0.0

    def today(self) -> date:
        return (datetime.now(UTC) + timedelta(seconds=self.offset_s)).date()
