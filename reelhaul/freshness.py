"""How many pages of the requested cells are missing or too old: what `reelhaul fresh` counts.

Without the fleet there is no Redis, so ages are measured by this machine's clock.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from reelhaul.errors import InvalidArgument, NothingStored
from reelhaul.source import Source, translated
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.keys import Cell, PageKey, parse_key
from worker.limiter.rate import Rate
from worker.storage.selection import cells_to_read

#: A stored time further ahead than this comes from a wrong clock; as in worker.storage.mongo.
_AHEAD = timedelta(minutes=5)
_FIELDS = {"total_pages": 1, "fetched_at": 1}


class Freshness(NamedTuple):
    """Pages of some cells."""

    #: That the cells are known to have.
    pages: int
    #: Missing or too old, and not in quarantine.
    stale: int
    #: Seconds that fetching them takes at the fleet's limit.
    takes_s: float


class _Pages(NamedTuple):
    """The stored pages of a cell; `length` is None unless page 1 is among them."""

    numbers: set[int]
    length: int | None


def limits(max_age: str | timedelta | None) -> timedelta:
    """How old data may be: `max_age`, by default and at most REELHAUL_RETENTION, else 180 days."""
    try:
        retention = parse_duration(os.environ.get("REELHAUL_RETENTION") or "180d", "REELHAUL_RETENTION")
        if isinstance(max_age, str):
            max_age = parse_duration(max_age, "max_age")
    except UsageError as error:
        raise InvalidArgument(str(error)) from None
    if max_age is not None and not isinstance(max_age, timedelta):
        raise InvalidArgument(f"max_age: expected a length of time such as '7d', got {max_age!r:.60}")
    return retention if max_age is None else min(max_age, retention)


def measure(
    source: Source, genre_ids: Iterable[int] | None, years: Iterable[int] | None, max_age: timedelta
) -> Freshness:
    """Count the pages of everything that was requested, or of some genres and years.

    Raises NothingStored when that is nothing, Unavailable.
    """
    cells = _cells(source, genre_ids, years)
    if not cells:
        raise NothingStored(
            "nothing was requested yet: `reelhaul backfill --help`, or pass genres, years, fetch=True"
        )
    now = datetime.now(UTC)
    latest, oldest = now + _AHEAD, now - max_age
    ever: dict[Cell, _Pages] = {}
    lately: dict[Cell, _Pages] = {}
    for key, length, at in _records(source):
        for stored, counts in ((ever, True), (lately, at is not None and oldest <= at <= latest)):
            if counts:
                pages = stored.get(key.cell, _Pages(set(), None))
                pages.numbers.add(key.page)
                stored[key.cell] = pages._replace(length=length) if key.page == 1 else pages
    failed = _quarantined(source, oldest, latest)
    planned = fresh = quarantined = 0
    for cell in cells:
        all_pages, (_, recent, in_quarantine) = _count(cell, ever, {})[0], _count(cell, lately, failed)
        planned += all_pages
        fresh += min(recent, all_pages)
        quarantined += in_quarantine
    stale = max(0, planned - fresh - quarantined)
    return Freshness(planned, stale, stale / _rate_per_s())


def _cells(source: Source, genre_ids: Iterable[int] | None, years: Iterable[int] | None) -> list[Cell]:
    requested = dict.fromkeys(
        Cell(genre["id"], str(year))
        for request in source.requests
        for year in request["years"]
        for genre in request["genres"]
    )
    if genre_ids is None and years is None:
        return list(requested)
    if genre_ids is None:
        genre_ids = source.requested_genres or source.genre_names
    if years is None:
        years = {year for request in source.requests for year in request["years"]}
    return cells_to_read(requested, genre_ids, years)


def _count(
    cell: Cell, stored: Mapping[Cell, _Pages], failed: Mapping[Cell, set[int]]
) -> tuple[int, int, int]:
    """Pages planned, stored and in quarantine, with the parts that the cell was split into."""
    pages, in_quarantine = stored.get(cell), failed.get(cell, set())
    if pages is None or pages.length is None:
        return 1, 0, int(1 in in_quarantine)
    needed = set(cell.pages(pages.length))
    done = needed & pages.numbers
    counts = [(len(needed), len(done), len(needed & in_quarantine - done))]
    counts += [_count(part, stored, failed) for part in cell.parts(pages.length)]
    planned, present, quarantined = (sum(part) for part in zip(*counts, strict=True))
    return planned, present, quarantined


def _records(source: Source) -> Iterator[tuple[PageKey, int | None, datetime | None]]:
    """Each page record of a cell: its key, its total_pages, when it was requested."""
    with translated():
        for record in source.database["pages"].find({}, _FIELDS, batch_size=10_000):
            if key := _page_key(record["_id"]):
                length, at = record.get("total_pages"), record.get("fetched_at")
                is_count = isinstance(length, int) and not isinstance(length, bool) and length >= 0
                yield key, length if is_count else None, at if isinstance(at, datetime) else None


def _quarantined(source: Source, oldest: datetime, latest: datetime) -> dict[Cell, set[int]]:
    """Pages in quarantine since `oldest` that were not stored since."""
    failures: dict[PageKey, datetime] = {}
    with translated():
        for failure in source.database["failures"].find({}, {"last_at": 1}):
            key, at = _page_key(failure["_id"]), failure.get("last_at")
            if key and isinstance(at, datetime) and at <= latest:
                failures[key] = at
        found: defaultdict[Cell, set[int]] = defaultdict(set)
        for key, failed_at in failures.items():
            record: Mapping[str, Any] = source.database["pages"].find_one({"_id": key.id}, _FIELDS) or {}
            stored_at = record.get("fetched_at")
            if failed_at >= oldest and not (isinstance(stored_at, datetime) and stored_at >= failed_at):
                found[key.cell].add(key.page)
    return found


def _page_key(id_: object) -> PageKey | None:
    """The key of a cell's page; None for other lists' pages and what cannot be read."""
    try:
        key = parse_key(str(id_))
    except UsageError:
        return None
    return key if isinstance(key, PageKey) else None


def _rate_per_s() -> float:
    try:
        return Rate.parse(os.environ.get("REELHAUL_RATE") or "35").per_s
    except UsageError as error:
        raise InvalidArgument(f"REELHAUL_RATE: {error}") from None
