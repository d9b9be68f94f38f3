"""The schedule's entries, from the TOML file REELHAUL_SCHEDULE or the default."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from producer.plan import parse_years
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.settings import settings

#: The schedule when no file is given, in the form of such a file.
DEFAULT = """\
# What Reelhaul does by itself. `every` is a length of time: 90s, 15m, 6h, 30d or 2w.

[changes]            # ask TMDB what changed, fetch those movies that are stored
do = "changes"
every = "1h"
new = false          # true: also movies that are not stored

[recent]             # fetch this year's and last year's pages again, as far as backfills asked for them
do = "refresh"
every = "1d"
years = "recent"     # or FIRST..LAST
max_age = "1d"

[totals]             # ask for the totals of each cell whose page 1 is older, fetch the cells that changed
do = "totals"
every = "7d"
max_age = "1d"

# [ids]              # load TMDB's newest list of ids, fetch the movies on it that are not stored: 1.2 million
# do = "ids"
# every = "1d"

[oldest]             # fetch again what is about to pass REELHAUL_RETENTION, the oldest first
do = "oldest"
every = "7d"
"""
#: Enqueues what Redis lost; runs at every tick unless the file holds such an entry.
SWEEP = "sweep"
RECENT = "recent"
#: What an entry can do, and the keys that its table may hold besides `do` and `every`.
KINDS: dict[str, set[str]] = {
    "changes": {"new"},
    "refresh": {"years", "max_age"},
    "totals": {"max_age"},
    "oldest": set(),
    "ids": set(),
    SWEEP: set(),
}
_HEADING = re.compile(r"\s*\[\s*(?P<name>[^\[\]]+?)\s*\]")


@dataclass(frozen=True)
class ScheduleEntry:
    """One entry of the schedule."""

    name: str
    do: str
    every: timedelta
    #: For a refresh, and for totals: how old what is stored may be.
    max_age: timedelta
    #: For a refresh: years of first release, () for this year and last year.
    years: tuple[int, ...] = ()
    #: For changes: fetch also movies that are not stored.
    new: bool = False


@cache
def schedule_entries() -> dict[str, ScheduleEntry]:
    """The schedule in use, by the entries' names; UsageError names file and line."""
    chosen = settings()
    path = chosen.reelhaul_schedule
    entries = parse_schedule(_text(path) if path else DEFAULT, str(path or "the default schedule"))
    tick = timedelta(seconds=chosen.reelhaul_tick_s)
    if not any(entry.do == SWEEP for entry in entries.values()):
        entries[SWEEP] = ScheduleEntry(SWEEP, SWEEP, tick, tick)
    return entries


def parse_schedule(text: str, source: str) -> dict[str, ScheduleEntry]:
    """The entries of a schedule file by name; UsageError names `source` and the line."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not TOML: {error}") from None
    return {name: _entry(name, table, _Lines(text, source, name)) for name, table in tables.items()}


class _Lines:
    """The lines of a schedule file, to name the one where an entry is wrong."""

    def __init__(self, text: str, source: str, name: str) -> None:
        self._lines, self._source, self._name = text.splitlines(), source, name

    def error(self, key: str, problem: str) -> UsageError:
        return UsageError(f"{self._source}, line {self._number(key)}: {problem}")

    def _number(self, key: str) -> int:
        """The key's line in the entry's table; else the table's heading or, without one, its first line."""
        heading, in_table = 0, False
        for number, line in enumerate(self._lines, 1):
            if found := _HEADING.match(line):
                in_table = found["name"].strip("\"'") == self._name
                heading = number if in_table else heading
            elif re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line) and in_table:
                return number
            elif not heading and re.match(rf"\s*[\"']?{re.escape(self._name)}[\"']?\s*[.=]", line):
                heading = number
        return heading


def _entry(name: str, table: Any, lines: _Lines) -> ScheduleEntry:
    if not isinstance(table, dict):
        raise lines.error(name, f"{name}: expected a table, [{name}] with do and every")
    kind = _string(table, "do", lines, f"one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise lines.error("do", f"do = {kind!r}: expected one of {', '.join(KINDS)}")
    if unknown := next((key for key in table if key not in {"do", "every", *KINDS[kind]}), None):
        expected = ", ".join(sorted({"do", "every", *KINDS[kind]}))
        raise lines.error(unknown, f"{unknown}: {kind} has no such key; expected {expected}")
    every = _length(table, "every", lines)
    if every < timedelta(seconds=1):
        raise lines.error("every", "every: expected a second or more")
    max_age = _length(table, "max_age", lines) if "max_age" in table else every
    years = _years(table, lines) if kind == "refresh" else ()
    return ScheduleEntry(name, kind, every, max_age, years, _flag(table, "new", lines))


def _years(table: Mapping[str, Any], lines: _Lines) -> tuple[int, ...]:
    text = _string(table, "years", lines, 'years = "recent" or "1990..1999"') if "years" in table else RECENT
    if text == RECENT:
        return ()
    try:
        return tuple(parse_years(text))
    except UsageError as error:
        raise lines.error("years", str(error).replace("--years", "years =")) from None


def _length(table: Mapping[str, Any], key: str, lines: _Lines) -> timedelta:
    text = _string(table, key, lines, f'{key} = "1h"')
    try:
        return parse_duration(text, f"{key} =")
    except UsageError as error:
        raise lines.error(key, str(error)) from None


def _flag(table: Mapping[str, Any], key: str, lines: _Lines) -> bool:
    if not isinstance(table.get(key, False), bool):
        raise lines.error(key, f"{key} = {table[key]!r}: expected true or false")
    return bool(table.get(key, False))


def _string(table: Mapping[str, Any], key: str, lines: _Lines, expected: str) -> str:
    if not isinstance(table.get(key), str):
        given = f"{key} = {table[key]!r}" if key in table else f"{key} is missing"
        raise lines.error(key, f"{given}: expected {expected}")
    return str(table[key])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"REELHAUL_SCHEDULE {path}: cannot be read: {reason}") from None
