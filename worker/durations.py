"""Lengths of time as people write and read them."""

import re
from datetime import timedelta

from worker.errors import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
#: 100 years: longer than anything has been stored, and short enough to subtract from a date.
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str, option: str) -> timedelta:
    """Parse `"90s"`, `"15m"`, `"6h"`, `"30d"` or `"2w"`; UsageError names `option`."""
    match = _DURATION.fullmatch(text.strip().lower())
    try:
        if match:
            return min(timedelta(seconds=float(match[1]) * _UNITS_S[match[2]]), _LONGEST)
    except OverflowError:
        pass
    raise UsageError(f"{option} {text!r}: expected a length of time such as 90s, 15m, 6h, 30d or 2w")


def format_duration(length: timedelta) -> str:
    """The exact length as `parse_duration` reads it, in the largest unit that divides it: `36h`."""
    seconds = length.total_seconds()
    unit = next((unit for unit in "dhm" if seconds % _UNITS_S[unit] == 0), "s")
    return f"{seconds / _UNITS_S[unit]:g}{unit}"


def format_seconds(seconds: float) -> str:
    """The rounded length in its two largest units: `45s`, `2m 05s`, `2h 05m`; from two days on `3d 04h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {whole:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24:02d}h"
