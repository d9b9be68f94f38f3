"""The grammar of faults, and which request one strikes.

    KIND[=VALUE][:p=0..1][:share=0..1][:every=N][:from=S][:for=S][:count=N][:match=REGEX]

Conditions come in any order, `match` last: it takes the rest of the text, colons included. docs/emulator.md
lists the kinds; bodies.py and delivery.py apply them.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

from sandbox.emulator.replies import TMDB_ERRORS

_SECONDS = r"\d+(\.\d+)?"
#: Without 25, which the kind 429 sends.
_TMDB_CODES = "|".join(str(code) for code in TMDB_ERRORS if code != 25)
#: Every final status but 200.
_STATUSES = r"(20[1-9]|2[1-9]\d|[345]\d\d)"
_COUNT = r"[+-]?\d{1,18}"
_RETRY_AFTERS = r"none|absurd|garbage|-?\d{1,12}|date[+-]\d{1,9}"

#: The payloads of "hostile".
HOSTILE = (
    "abyss", "bad-ids", "bad-rows", "big-id", "bigint", "duplicates", "keys", "megabyte", "nan", "nesting",
    "nul", "oversize", "reserved", "surrogate",
)  # fmt: skip


class FaultKind(NamedTuple):
    """The values of a kind, as a regular expression and as text."""

    pattern: str = ""
    values: str = "no value"
    #: None when a value is required.
    default: str | None = ""
    #: Strikes pages of movies only: discover, popular and search.
    needs_page: bool = False


FAULT_KINDS: dict[str, FaultKind] = {
    "429": FaultKind(_RETRY_AFTERS, "none, SECONDS, date+S, date-S, absurd or garbage", "none"),
    "status": FaultKind(_STATUSES + "(/(json|html|empty))?", "201 to 599, and /json, /html or /empty", None),
    "error": FaultKind(_TMDB_CODES, "a TMDB status code", None),
    "error-200": FaultKind(_TMDB_CODES, "a TMDB status code", "11"),
    "redirect": FaultKind(r"3\d\d", "300 to 399", "302"),
    "echo": FaultKind(f"200|{_STATUSES}", "200 to 599", "200"),
    "html": FaultKind(),
    "empty": FaultKind(),
    "gzip": FaultKind(),
    "not-json": FaultKind(),
    "reset": FaultKind("start|head|body", "start, head or body", "body"),
    "close": FaultKind(),
    "truncate": FaultKind(),
    "drip": FaultKind(_SECONDS, "seconds", "5"),
    "drip-head": FaultKind(_SECONDS, "seconds", "5"),
    "early-hints": FaultKind(_SECONDS, "seconds", "0.05"),
    "latency": FaultKind(_SECONDS, "seconds", None),
    "hang": FaultKind(),
    "results": FaultKind(
        "null|object|text|missing", "null, object, text or missing", "null", needs_page=True
    ),
    "wrong-page": FaultKind(r"\d{0,18}", "a page, or nothing for the next one", needs_page=True),
    "totals": FaultKind(
        f"{_COUNT}/{_COUNT}", "TOTAL_PAGES/TOTAL_RESULTS, with a sign: what is added", None, needs_page=True
    ),
    "no-results": FaultKind(
        r"\d{1,18}/\d{1,18}", "TOTAL_PAGES/TOTAL_RESULTS, or nothing for 1/0", "1/0", needs_page=True
    ),
    "short": FaultKind(r"\d{1,9}", "the number of movies left out", "1", needs_page=True),
    "shift": FaultKind(r"\d{1,9}", "the number of movies by which pages slide", "1", needs_page=True),
    "stale": FaultKind(needs_page=True),
    "hostile": FaultKind("|".join(HOSTILE), ", ".join(HOSTILE), None, needs_page=True),
}


class FaultSyntaxError(ValueError):
    """An invalid fault; the text is one line that quotes it and names what was expected."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault and its conditions; `str()` gives the shortest spec that parses to an equal one."""

    kind: str
    value: str = ""
    #: For each request that meets the other conditions.
    probability: float = 1.0
    #: Part of all requests, chosen by the seed: a request is struck each time it is made, or never.
    share: float = 1.0
    #: Strikes every Nth request that matches.
    every: int = 1
    #: Seconds after the start of the plan, and the seconds from then on; None without end.
    from_s: float = 0.0
    for_s: float | None = None
    #: Strikes at most this often; None without limit.
    count: int | None = None
    #: Searched for in `path?query`.
    match: str = ""

    def __str__(self) -> str:
        always = Fault(self.kind, self.value)
        value = "" if self.value == FAULT_KINDS[self.kind].default else f"={self.value}"
        conditions = [
            f":{name}={getattr(self, field)}"
            for name, (field, *_) in _CONDITIONS.items()
            if getattr(self, field) != getattr(always, field)
        ]
        return f"{self.kind}{value}{''.join(conditions)}"


def parse_fault(spec: str) -> Fault:
    """The fault of a spec; FaultSyntaxError when it is invalid."""
    before_match, has_match, pattern = spec.partition(":match=")
    head, *conditions = before_match.split(":")
    fault = _parse_kind(spec, head)
    if has_match:
        conditions.append(f"match={pattern}")
    for condition in conditions:
        name, _, text = condition.partition("=")
        if name not in _CONDITIONS:
            known = ", ".join(_CONDITIONS)
            raise FaultSyntaxError(f"fault {spec!r}: unknown condition {name!r}; known are {known}")
        rule = _CONDITIONS[name]
        try:
            value = rule.parse(text)
        except (ValueError, re.error):
            value = None
        if value is None or not rule.is_valid(value):
            raise FaultSyntaxError(f"fault {spec!r}: {name} must be {rule.values}, got {text!r}")
        fault = replace(fault, **{rule.field: value})
    return fault


def _parse_kind(spec: str, head: str) -> Fault:
    kind, has_value, value = head.partition("=")
    if kind not in FAULT_KINDS:
        raise FaultSyntaxError(f"fault {spec!r}: unknown kind {kind!r}; known are {', '.join(FAULT_KINDS)}")
    rule = FAULT_KINDS[kind]
    chosen = value if has_value else rule.default
    if chosen is None or not re.fullmatch(rule.pattern, chosen, re.ASCII):
        raise FaultSyntaxError(f"fault {spec!r}: {kind} takes {rule.values}, got {value or 'nothing'!r}")
    return Fault(kind, chosen)


class _Condition(NamedTuple):
    """A condition of a spec: its field, its parser, and the values that are valid."""

    field: str
    parse: Callable[[str], Any]
    is_valid: Callable[[Any], bool]
    values: str


_SHARE = (float, lambda share: 0 <= share <= 1, "0 to 1")
_NUMBER = (int, lambda number: number >= 1, "an integer above 0")
_TIME = (float, lambda seconds: 0 <= seconds < math.inf, "a number, 0 or more")
_CONDITIONS = {
    "p": _Condition("probability", *_SHARE),
    "share": _Condition("share", *_SHARE),
    "every": _Condition("every", *_NUMBER),
    "from": _Condition("from_s", *_TIME),
    "for": _Condition("for_s", *_TIME),
    "count": _Condition("count", *_NUMBER),
    "match": _Condition(
        "match", lambda text: re.compile(text).pattern, lambda _: True, "a regular expression"
    ),
}


class _Watch:
    """A fault with its counts and its own random numbers, which do not depend on other faults."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.struck = 0
        self._seen = 0
        self._pattern = re.compile(fault.match)
        self._seed = seed
        self._rng = Random(seed)  # noqa: S311 -- reproducible faults, not secrets

    def strikes(self, target: str, is_page: bool, elapsed_s: float) -> bool:
        fault = self.fault
        if FAULT_KINDS[fault.kind].needs_page and not is_page:
            return False
        if not fault.from_s <= elapsed_s < fault.from_s + (math.inf if fault.for_s is None else fault.for_s):
            return False
        if not self._pattern.search(target) or not self._shares(target):
            return False
        self._seen += 1
        if self._seen % fault.every or (fault.count is not None and self.struck >= fault.count):
            return False
        return fault.probability >= 1.0 or self._rng.random() < fault.probability

    def _shares(self, target: str) -> bool:
        if self.fault.share >= 1.0:
            return True
        digest = hashlib.sha256(f"{self._seed}/{target}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.fault.share * 2**64


class FaultPlan:
    """The faults in force; the same seed and the same requests in the same order give the same faults."""

    def __init__(self, faults: Iterable[Fault], seed: int, began_s: float) -> None:
        self.faults = tuple(faults)
        self._began_s = began_s
        self._watches = [_Watch(fault, f"{seed}/{index}/{fault}") for index, fault in enumerate(self.faults)]

    def pick(self, target: str, *, is_page: bool, now_s: float) -> Fault | None:
        """The first fault that strikes this request, if any; each one counts every request that it matches.

        `target` is `path?query`; `now_s` is on the same monotonic clock as `began_s`.
        """
        striking = [watch for watch in self._watches if watch.strikes(target, is_page, now_s - self._began_s)]
        if not striking:
            return None
        striking[0].struck += 1
        return striking[0].fault
