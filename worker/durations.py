"""Lengths of time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from worker.errors import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: Further back than any page was fetched, and no further than a calendar goes.
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str, option: str) -> timedelta:
    """`"90s"`, `"15m"`, `"6h"`, `"30d"` or `"2w"`; UsageError names `option`."""
    form = _DURATION.fullmatch(text.strip().lower())
    try:
        if form:
            return min(timedelta(seconds=float(form[1]) * _UNITS_S[form[2]]), _LONGEST)
    except OverflowError:
        pass
    raise UsageError(f"{option} {text!r}: expected a length of time such as 90s, 15m, 6h, 30d or 2w")


def duration(length: timedelta) -> str:
    """The length as `parse_duration` reads it, in the largest unit that divides it."""
    seconds = length.total_seconds()
    unit = next((unit for unit in "dhm" if seconds % _UNITS_S[unit] == 0), "s")
    return f"{seconds / _UNITS_S[unit]:g}{unit}"
