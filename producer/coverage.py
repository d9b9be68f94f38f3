"""How many pages of each cell are planned, stored and in quarantine; MongoDB is read once for all cells."""

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
    """Numbers of pages, of one cell or of several."""

    cells: int = 0
    #: Cells whose page 1 is stored: it says how many pages they have.
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
        }


class CoverageIndex:
    """The stored and quarantined pages of every cell, as of one reading of MongoDB."""

    def __init__(
        self,
        believed: tuple[datetime, datetime] | None,
        counts: Mapping[Cell, Count],
        quarantined: Mapping[PageKey | MovieKey, Document],
    ) -> None:
        self._counts = counts
        self._quarantined: Counter[Cell] = Counter()  # bit n: page n
        for key, failure in quarantined.items():
            if isinstance(key, PageKey) and (
                believed is None or believed[0] <= failure["last_at"] <= believed[1]
            ):
                self._quarantined[key.cell] |= 1 << key.page

    @classmethod
    def read(
        cls, storage: Storage, moments: Iterable[datetime | None]
    ) -> dict[datetime | None, CoverageIndex]:
        """An index for each moment: pages requested before it count as missing (None: no page does)."""
        quarantined, latest = storage.failures.quarantined(), storage.mongo.latest()
        return {
            moment: cls((moment, latest) if moment else None, counts, quarantined)
            for moment, counts in count_pages(storage.pages, latest, set(moments)).items()
        }

    def coverage(self, cell: Cell) -> Coverage:
        """The coverage of the cell, including the windows it was split into."""
        quarantined, count = self._quarantined[cell], self._counts.get(cell)
        if count is None or count.total_pages < 0:
            return Coverage(cells=1, planned=1, quarantined=quarantined >> 1 & 1)
        halves = cell.halves() if count.total_pages > MAX_PAGE else ()
        planned = 1 if halves else min(max(count.total_pages, 1), MAX_PAGE)
        wanted = (1 << planned + 1) - 2  # pages beyond it remain from when the cell was larger
        stored = count.pages & wanted
        whole = Coverage(1, 1, planned, stored.bit_count(), (quarantined & wanted & ~stored).bit_count())
        for half in halves:
            part = self.coverage(half)
            part.cells = part.opened = 0
            whole.add(part)
        return whole
