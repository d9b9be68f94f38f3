"""How much of each cell is stored: one question to MongoDB, the rest is arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from worker.keys import MAX_PAGE, Cell, MovieKey, PageKey
from worker.storage.database import Storage
from worker.storage.mongo import Document
from worker.storage.page_counts import Count, count_pages


@dataclass
class Coverage:
    """Pages of one cell, or of many: what is known of the plan and what is stored of it."""

    cells: int = 0
    #: Cells whose page 1 is stored: only then are their other pages known.
    opened: int = 0
    planned: int = 0
    stored: int = 0
    quarantined: int = 0

    def add(self, other: Coverage) -> None:
        self.cells += other.cells
        self.opened += other.opened
        self.planned += other.planned
        self.stored += other.stored
        self.quarantined += other.quarantined

    @property
    def missing(self) -> int:
        """Pages known to be needed, neither stored nor given up."""
        return self.planned - self.stored - self.quarantined

    @property
    def expected(self) -> int:
        """Pages in all, cells that are not open yet taken to be as long as the others."""
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
        }


class CoverageIndex:
    """What is stored and given up of every cell, as of one reading."""

    def __init__(
        self,
        believed: tuple[datetime, datetime] | None,
        counts: Mapping[Cell, Count],
        quarantined: Mapping[PageKey | MovieKey, Document],
    ) -> None:
        self._counts = counts
        self._given_up: Counter[Cell] = Counter()  # bit n: page n
        for key, failure in quarantined.items():
            if isinstance(key, PageKey) and (
                believed is None or believed[0] <= failure["last_at"] <= believed[1]
            ):
                self._given_up[key.cell] |= 1 << key.page

    @classmethod
    def read(
        cls, storage: Storage, moments: Iterable[datetime | None]
    ) -> dict[datetime | None, CoverageIndex]:
        """A ledger for each moment from which pages count as fresh (None: all do); the store is read once."""
        quarantined, latest = storage.failures.quarantined(), storage.mongo.latest()
        return {
            moment: cls((moment, latest) if moment else None, counts, quarantined)
            for moment, counts in count_pages(storage.pages, latest, set(moments)).items()
        }

    def coverage(self, cell: Cell) -> Coverage:
        """Of the cell, with all windows it was split into."""
        given_up, count = self._given_up[cell], self._counts.get(cell)
        if count is None or count.total_pages < 0:
            return Coverage(cells=1, planned=1, quarantined=given_up >> 1 & 1)
        halves = cell.halves() if count.total_pages > MAX_PAGE else ()
        planned = 1 if halves else min(max(count.total_pages, 1), MAX_PAGE)
        wanted = (1 << planned + 1) - 2  # pages beyond are left over from when the cell was larger
        stored = count.pages & wanted
        whole = Coverage(1, 1, planned, stored.bit_count(), (given_up & wanted & ~stored).bit_count())
        for half in halves:
            part = self.coverage(half)
            part.cells = part.opened = 0
            whole.add(part)
        return whole
