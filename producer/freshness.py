"""Does the data need to be updated? What is older than it may be, or missing, counted without a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from producer.coverage import CoverageIndex
from producer.enqueue import asked_backfills
from producer.plan import parse_genres, parse_years, plan_cells
from worker.clients import storage
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.keys import Cell
from worker.settings import settings
from worker.storage.database import Storage


@dataclass(frozen=True)
class Freshness:
    """Pages of some cells against an age."""

    max_age: timedelta
    cells: int
    #: Pages that the cells are known to need.
    pages: int
    #: Of those, the ones to fetch: older than max_age, or missing.
    stale: int
    #: Given up, in quarantine, within max_age.
    quarantined: int
    #: Seconds that fetching the stale ones takes at the limit, at the least.
    takes_s: float

    @property
    def is_fresh(self) -> bool:
        """Whether nothing is older or missing."""
        return not self.stale


def freshness(
    max_age: timedelta | str | None = None, genres: str | None = None, years: str | None = None
) -> Freshness:
    """What `reelhaul fresh` tells, of everything that was asked for or of some genres and years.

    `max_age` is at most, and by default, REELHAUL_RETENTION. Raises UsageError when an argument cannot be
    used or nothing was asked for yet, MongoUnavailable when MongoDB does not answer.
    """
    if isinstance(max_age, str):
        max_age = parse_duration(max_age, "--max-age")
    retention = settings().reelhaul_retention
    cells = asked_cells(storage(), genres, years)
    return measure_freshness(storage(), cells, retention if max_age is None else min(max_age, retention))


def measure_freshness(storage: Storage, cells: Iterable[Cell], max_age: timedelta) -> Freshness:
    """The cells' pages as they are stored now."""
    fresh_after = storage.mongo.now() - max_age
    ledgers = CoverageIndex.read(storage, [None, fresh_after])
    number = pages = fresh = quarantined = 0
    for cell in cells:
        known, young = ledgers[None].coverage(cell), ledgers[fresh_after].coverage(cell)
        number += 1
        pages += known.planned
        fresh += min(young.stored, known.planned)
        quarantined += young.quarantined
    stale = max(0, pages - fresh - quarantined)
    return Freshness(max_age, number, pages, stale, quarantined, stale / settings().reelhaul_rate.per_s)


def asked_cells(storage: Storage, genres: str | None, years: str | None) -> list[Cell]:
    """The cells of every backfill that somebody asked for; with words, of those genres and years."""
    asked = asked_backfills(storage)
    names = {genre_id: name for backfill in asked for genre_id, name in backfill.genres.items()}
    if genres is None and years is None:
        if not asked:
            raise UsageError("nothing was asked for yet: `reelhaul backfill --help`")
        return list(dict.fromkeys(cell for backfill in asked for cell in backfill.cells()))
    known = storage.genres.names() | names
    if not known:
        raise UsageError("no genres are known yet: `reelhaul backfill` asks TMDB for them")
    chosen = parse_genres(genres, known) if genres else list(names or known)
    wanted = parse_years(years) if years else sorted({year for backfill in asked for year in backfill.years})
    return plan_cells(chosen, wanted)
