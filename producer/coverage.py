"""How many pages of each list are planned, stored and in quarantine; MongoDB is read once for all lists."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from producer.drift import Unchecked
from worker.keys import Cell, ListKey, PagedList
from worker.storage.database import Storage
from worker.storage.page_counts import Count, count_pages


@dataclass
class Coverage:
    """Numbers of pages, of one cell or of several; also of other lists, and of single movies."""

    cells: int = 0
    #: Cells whose page 1 is stored: it says how many pages they have.
    opened: int = 0
    planned: int = 0
    stored: int = 0
    quarantined: int = 0
    #: Movies that are on no page, though pages were asked for again.
    short: int = 0

    def add(self, other: Self) -> None:
        self.cells += other.cells
        self.opened += other.opened
        self.planned += other.planned
        self.stored += other.stored
        self.quarantined += other.quarantined
        self.short += other.short

    @property
    def missing(self) -> int:
        """Planned pages that are neither stored nor in quarantine."""
        return self.planned - self.stored - self.quarantined

    @property
    def expected(self) -> int:
        """Estimated pages in total: cells that are not open yet count as long as the open ones on average."""
        length = self.planned / self.opened if self.opened else 1.0
        return self.planned + round((self.cells - self.opened) * max(0.0, length - 1))

    def as_dict(self) -> dict[str, int]:
        return {
            "cells": self.cells,
            "opened": self.opened,
            "pages_planned": self.planned,
            "pages_stored": self.stored,
            "missing": self.missing,
            "quarantined": self.quarantined,
            "short": self.short,
        }


class CoverageIndex:
    """The stored and quarantined pages of every list, as of one reading of MongoDB."""

    def __init__(self, counts: Mapping[str, Count], quarantined: Iterable[ListKey]) -> None:
        self._counts = counts
        self._quarantined: defaultdict[str, set[int]] = defaultdict(set)
        for key in quarantined:
            self._quarantined[key.id.rpartition(":")[0]].add(key.page)

    @classmethod
    def read(cls, storage: Storage, moments: Collection[datetime | None]) -> dict[datetime | None, Self]:
        """An index for each moment: pages requested before it count as missing (None: no page does)."""
        failures, latest = storage.failures.quarantined(), storage.mongo.latest()

        def quarantined(moment: datetime | None) -> Iterator[ListKey]:
            for key, failure in failures.items():
                if isinstance(key, ListKey) and (moment is None or moment <= failure["last_at"] <= latest):
                    yield key

        counts = count_pages(storage.pages, set(moments), latest)
        return {moment: cls(count, quarantined(moment)) for moment, count in counts.items()}

    def coverage(self, wanted: PagedList) -> Coverage:
        """The coverage of a list; of a cell with the parts that it was split into."""
        quarantined, count = self._quarantined[wanted.id], self._counts.get(wanted.id)
        if count is None or count.total_pages is None:
            return Coverage(cells=1, planned=1, quarantined=int(1 in quarantined))
        needed = set(wanted.pages(count.total_pages))  # records beyond remain from when it was longer
        stored = needed & count.pages
        short = count.checked.short if count.checked else 0
        whole = Coverage(1, 1, len(needed), len(stored), len(needed & quarantined - stored), short)
        for cell in wanted.parts(count.total_pages):
            part = self.coverage(cell)
            part.cells = part.opened = 0
            whole.add(part)
        return whole

    def unchecked(self, cell: Cell) -> list[Unchecked]:
        """The cell and its parts, if complete and not compared with their totals; parts first."""
        return self._check(cell)[1]

    def _check(self, cell: Cell) -> tuple[datetime | None, list[Unchecked]]:
        """When the newest page of the cell and its parts was requested, if all are stored; unchecked()."""
        count = self._counts.get(cell.id)
        if count is None or count.total_pages is None or count.newest is None:
            return None, []
        parts = [self._check(part) for part in cell.parts(count.total_pages)]
        unchecked = [one for _, found in parts for one in found]
        times = [newest for newest, _ in parts if newest]
        if len(times) < len(parts) or not count.pages.issuperset(cell.pages(count.total_pages)):
            return None, unchecked
        newest = max(count.newest, *times) if times else count.newest
        if not (count.checked and count.checked.until >= newest):
            unchecked.append(Unchecked(cell, newest))
        return newest, unchecked

    def beyond_reach(self, cell: Cell) -> Iterator[Cell]:
        """The days in the cell of which both ends do not show every page, as far as pages are stored."""
        count = self._counts.get(cell.id)
        if count is None or count.total_pages is None:
            return
        if cell.is_beyond_reach(count.total_pages):
            yield cell
        else:
            for part in cell.parts(count.total_pages):
                yield from self.beyond_reach(part)


def in_quarantine(number: int) -> str:
    """The end of a sentence: how many pages or movies are in quarantine, if any."""
    return f", {number:,} in quarantine" if number else ""
