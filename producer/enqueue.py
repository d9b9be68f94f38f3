"""What a backfill lacks becomes messages; what was asked for is kept, so that resuming needs no arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from producer.coverage import CoverageIndex
from producer.plan import plan_cells
from worker.keys import Cell, PageKey
from worker.storage.database import Storage
from worker.tasks import enqueue_pages

#: Whether a finished backfill still lacks nothing is computed anew after this long: pages may have gone by
#: another way than ours, by hand or with what a failover lost.
TRUSTED = timedelta(hours=1)


@dataclass(frozen=True)
class Backfill:
    """One request: every genre in every year, no page older than `fresh_after`."""

    genres: Mapping[int, str]
    years: tuple[int, ...]
    max_age: timedelta | None
    requested_at: datetime
    #: The duty of the schedule that asks; "": a person.
    duty: str = ""

    @property
    def id(self) -> str:
        """Eight hexadecimal digits, the same for the same request at any time."""
        age_s = self.max_age.total_seconds() if self.max_age is not None else None
        request = json.dumps([sorted(self.genres), self.years, age_s, *([self.duty] if self.duty else [])])
        return hashlib.sha256(request.encode()).hexdigest()[:8]

    @property
    def fresh_after(self) -> datetime | None:
        """Pages fetched before this moment count as missing; None: any page will do."""
        return self.requested_at - self.max_age if self.max_age is not None else None

    @property
    def fresh_after_ms(self) -> int:
        """The same for a message: milliseconds since 1970, 0 for None."""
        return int(self.fresh_after.timestamp() * 1000) if self.fresh_after else 0

    def cells(self) -> list[Cell]:
        return plan_cells(self.genres, self.years)

    def missing(self, storage: Storage, ages: Mapping[Cell, datetime] | None = None) -> Iterator[PageKey]:
        """What is not stored yet; of a cell without page 1, that page stands for all of it.

        With `ages`, cells that have one come first, the oldest first.
        """
        ledger = CoverageIndex.read(storage, [self.fresh_after])[self.fresh_after]
        incomplete = [cell for cell in self.cells() if ledger.coverage(cell).missing]
        if ages:
            incomplete.sort(key=lambda cell: ages.get(cell, self.requested_at))
        return storage.pages.missing(incomplete, self.fresh_after)

    def document(self) -> dict[str, Any]:
        return {
            "genres": [{"id": genre_id, "name": name} for genre_id, name in self.genres.items()],
            "years": list(self.years),
            "max_age_s": self.max_age.total_seconds() if self.max_age is not None else None,
            "requested_at": self.requested_at,
            "duty": self.duty,
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Backfill:
        age_s = document["max_age_s"]
        return cls(
            genres={genre["id"]: genre["name"] for genre in document["genres"]},
            years=tuple(document["years"]),
            max_age=timedelta(seconds=age_s) if age_s is not None else None,
            requested_at=document["requested_at"],
            duty=document.get("duty", ""),
        )


def begin(
    storage: Storage, backfill: Backfill, lane: str = "cells", ages: Mapping[Cell, datetime] | None = None
) -> int:
    """Keep the request and enqueue what it lacks, as `Backfill.missing` orders it; returns the messages.

    Raises MongoUnavailable, or RedisUnavailable when some messages may not be queued: begin again.
    """
    storage.pages.create_indexes()  # before the first page of it is stored
    storage.backfills.save(backfill.id, backfill.document())
    return enqueue_pages(backfill.missing(storage, ages), backfill.fresh_after_ms, lane)


def known_backfills(storage: Storage) -> list[Backfill]:
    """Every request kept, the latest first."""
    return [Backfill.of_document(document) for document in storage.backfills.all()]


def asked_backfills(storage: Storage) -> list[Backfill]:
    """Those that a person asked for, the latest first."""
    return [backfill for backfill in known_backfills(storage) if not backfill.duty]


def lacking(storage: Storage, ids: Collection[str]) -> set[str]:
    """Of the requests with these ids, those that lack pages now: that nobody noted their end says nothing."""
    documents = (one for one in storage.backfills.all(unfinished=True) if one["_id"] in ids)
    return {
        one["_id"] for one in documents if next(Backfill.of_document(one).missing(storage), None) is not None
    }


def unfinished(storage: Storage, now: datetime) -> Iterator[tuple[Backfill, Iterator[PageKey]]]:
    """Backfills that lack pages, each with what it lacks; the others are noted as finished."""
    for document in storage.backfills.all():
        finished_at = document.get("finished_at")
        if finished_at and now - TRUSTED < finished_at <= now:
            continue
        if document["requested_at"] > storage.mongo.latest():
            # Asked for while the clock was ahead: no page that is fetched now could ever satisfy it.
            document["requested_at"] = now
            storage.backfills.correct_date(document["_id"], now)
        backfill = Backfill.of_document(document)
        lacking = backfill.missing(storage)
        first = next(lacking, None)
        if first is not None:
            yield backfill, chain([first], lacking)
        else:
            storage.backfills.finish(document, now)
