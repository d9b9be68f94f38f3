"""Backfills: what was requested, what of it is missing, and the messages that fetch it."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Self

from producer.coverage import CoverageIndex
from producer.plan import plan_cells
from worker.keys import Cell, PageKey
from worker.storage.database import Storage
from worker.tasks import enqueue_pages

#: After this long, whether a finished backfill is still complete is computed again: pages may have been
#: deleted by hand, or lost in a failover.
TRUSTED = timedelta(hours=1)


@dataclass(frozen=True)
class Backfill:
    """A request: every genre in every year, with no page older than `max_age` at `requested_at`."""

    genres: Mapping[int, str]
    years: tuple[int, ...]
    max_age: timedelta | None
    requested_at: datetime
    #: Name of the schedule entry that requested it; "" for a person.
    schedule_entry: str = ""

    @property
    def id(self) -> str:
        """Eight hexadecimal digits; the same request has the same id at any time."""
        request: list[object] = [sorted(self.genres), self.years, self._max_age_s]
        if self.schedule_entry:
            request.append(self.schedule_entry)
        return hashlib.sha256(json.dumps(request).encode()).hexdigest()[:8]

    @property
    def fresh_after(self) -> datetime | None:
        """Pages requested before this moment count as missing; None: a page of any age will do."""
        return self.requested_at - self.max_age if self.max_age is not None else None

    @property
    def fresh_after_ms(self) -> int:
        """`fresh_after` as messages carry it: milliseconds since 1970, 0 for None."""
        return int(self.fresh_after.timestamp() * 1000) if self.fresh_after else 0

    def cells(self) -> list[Cell]:
        return plan_cells(self.genres, self.years)

    def missing(self, storage: Storage, ages: Mapping[Cell, datetime] | None = None) -> Iterator[PageKey]:
        """The pages that are missing; a cell without page 1 lacks that page alone, for its length is unknown.

        Cells that `ages` holds come first, the oldest of them first.
        """
        index = CoverageIndex.read(storage, [self.fresh_after])[self.fresh_after]
        incomplete = [cell for cell in self.cells() if index.coverage(cell).missing]
        if ages:
            incomplete.sort(key=lambda cell: ages.get(cell, self.requested_at))
        return storage.pages.missing(incomplete, self.fresh_after)

    def to_document(self) -> dict[str, Any]:
        return {
            "genres": [{"id": genre_id, "name": name} for genre_id, name in self.genres.items()],
            "years": list(self.years),
            "max_age_s": self._max_age_s,
            "requested_at": self.requested_at,
            "schedule_entry": self.schedule_entry,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        age_s = document["max_age_s"]
        return cls(
            genres={genre["id"]: genre["name"] for genre in document["genres"]},
            years=tuple(document["years"]),
            max_age=timedelta(seconds=age_s) if age_s is not None else None,
            requested_at=document["requested_at"],
            schedule_entry=document.get("schedule_entry", ""),
        )

    @property
    def _max_age_s(self) -> float | None:
        return self.max_age.total_seconds() if self.max_age is not None else None


def enqueue_backfill(
    storage: Storage, backfill: Backfill, queue: str = "cells", ages: Mapping[Cell, datetime] | None = None
) -> int:
    """Save the request and enqueue what is missing, in the order of `Backfill.missing`; returns how many.

    Raises MongoUnavailable; RedisUnavailable when some messages may not have been sent. Call it again then.
    """
    storage.pages.create_indexes()  # while the collection is still empty
    storage.backfills.save(backfill.id, backfill.to_document())
    return enqueue_pages(backfill.missing(storage, ages), backfill.fresh_after_ms, queue)


def all_backfills(storage: Storage) -> list[Backfill]:
    """Every saved request, the latest first."""
    return [Backfill.from_document(document) for document in storage.backfills.all()]


def requested_backfills(storage: Storage) -> list[Backfill]:
    """The backfills that a person requested, the latest first."""
    return [backfill for backfill in all_backfills(storage) if not backfill.schedule_entry]


def incomplete(storage: Storage, ids: Collection[str]) -> set[str]:
    """Those of the backfills with these ids that lack pages now."""
    return {
        document["_id"]
        for document in storage.backfills.all(unfinished=True)
        if document["_id"] in ids and any(Backfill.from_document(document).missing(storage))
    }


def find_missing(storage: Storage, now: datetime) -> Iterator[tuple[Backfill, Iterator[PageKey]]]:
    """Each backfill that lacks pages, with those pages; backfills that lack none are noted as finished."""
    for document in storage.backfills.all():
        finished_at = document.get("finished_at")
        if finished_at and now - TRUSTED < finished_at <= now:
            continue
        if document["requested_at"] > storage.mongo.latest():
            # Requested while the clock was ahead: no page that is fetched now would count as fresh.
            document["requested_at"] = now
            storage.backfills.correct_date(document["_id"], now)
        backfill = Backfill.from_document(document)
        missing = backfill.missing(storage)
        first = next(missing, None)
        if first is None:
            storage.backfills.finish(document, now)
        else:
            yield backfill, chain([first], missing)
