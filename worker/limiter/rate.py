"""A request rate as an exact fraction, so that 1/hour and 5,000/s lose nothing to rounding. Pure."""

import re
from fractions import Fraction
from typing import NamedTuple, Self

from worker.errors import UsageError

_UNITS_S = {"s": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_UNITS_S |= {"d": 86400, "day": 86400}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(\d*)\s*([a-z]+))?\s*")
#: token_bucket.lua keeps times as integers below 2^53; these bounds leave it room.
_SLOWEST, _FASTEST = Fraction(1, 86400), Fraction(100_000)
_FINEST = 1_000_000


class Rate(NamedTuple):
    """`requests` per `period_s` seconds, both integers, in lowest terms."""

    requests: int
    period_s: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`"35"`, `"0.5"`, `"20/s"`, `"40/10s"` or `"1/hour"`; UsageError for anything else."""
        form = _FORM.fullmatch(text)
        if form and (form[3] or "s") in _UNITS_S:
            period = int(form[2] or 1) * _UNITS_S[form[3] or "s"]
            per_second = Fraction(form[1]) / period if period else Fraction(0)
            if _SLOWEST <= per_second <= _FASTEST and per_second.denominator <= _FINEST:
                return cls(per_second.numerator, per_second.denominator)
        raise UsageError(f"rate {text!r}: expected requests per second (35, 0.5) or 20/s, 40/10s, 1/hour")

    @property
    def per_s(self) -> float:
        return self.requests / self.period_s

    def __str__(self) -> str:
        return f"{self.per_s:g}/s" if self.per_s >= 1 else f"{self.requests}/{self.period_s}s"
