"""Backfills, every page of some cells; and checks of their totals, which fetch the cells that changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from producer.coverage import Coverage, CoverageIndex
from producer.drift import rechecks
from producer.plan import plan_cells
from producer.requests.request import Progress, Request
from worker.keys import ANY_GENRE, Cell, Fetch, Key, TotalsKey
from worker.storage.database import Storage
from worker.storage.mongo import EPOCH


@dataclass(frozen=True)
class Backfill(Request):
    """Every genre in every year, with no page older than `max_age` at `requested_at`."""

    kind = "backfill"
    genres: Mapping[int, str]
    years: tuple[int, ...]
    max_age: timedelta | None
    requested_at: datetime
    schedule_entry: str = ""

    @property
    def fresh_after(self) -> datetime | None:
        return self.requested_at - self.max_age if self.max_age is not None else None

    @property
    def title(self) -> str:
        years = f"{min(self.years)}..{max(self.years)}" if len(self.years) > 1 else f"{self.years[0]}"
        number = len(self.genres.keys() - {ANY_GENRE})
        parts = [f"{number} genre{'s' if number > 1 else ''}"] if number else []
        if ANY_GENRE in self.genres:
            parts.append("by date")
        return self._title(f"{' and '.join(parts)}, {years}")

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "genres": sorted(self.genres)}

    def cells(self) -> list[Cell]:
        return plan_cells(self.genres, self.years)

    def missing(self, storage: Storage, ages: Mapping[Cell, datetime] | None = None) -> Iterator[Fetch[Key]]:
        """A cell without page 1 lacks that page alone, for its length is unknown.

        Cells that `ages` holds come first, the oldest of them first; then complete cells whose pages do not
        fit together.
        """
        index = CoverageIndex.read(storage, [self.fresh_after])[self.fresh_after]
        incomplete = [cell for cell in self.cells() if index.coverage(cell).missing]
        if ages:
            incomplete.sort(key=lambda cell: ages.get(cell, self.requested_at))
        for key in storage.pages.missing(incomplete, self.fresh_after):
            yield Fetch(key, self.fresh_after)
        yield from rechecks(storage, (one for cell in self.cells() for one in index.unchecked(cell)))

    def progress(self, storage: Storage, index: CoverageIndex) -> Progress:
        progress = Progress(
            self,
            Coverage(),
            by_genre={name: Coverage() for name in self.genres.values()},
            by_year={str(year): Coverage() for year in sorted(self.years)},
        )
        for cell in self.cells():
            part = index.coverage(cell)
            progress.pages.add(part)
            progress.by_genre[self.genres[cell.genre_id]].add(part)
            progress.by_year[cell.window].add(part)
            progress.by_cell[cell] = part
            progress.unchecked += index.unchecked(cell)
        if not progress.missing and not progress.quarantined:
            days = {day for cell in self.cells() for day in index.beyond_reach(cell)}
            progress.unreachable = sum(storage.pages.unreachable(day) for day in days)
        return progress


class TotalsCheck(Backfill):
    """The totals of every cell, and every page of the cells of which they have changed.

    Totals are known if the cell's page 1, or they alone, were requested since `fresh_after`.
    """

    kind = "totals"

    @property
    def title(self) -> str:
        return f"{super().title}, what changed"

    def missing(
        self,
        storage: Storage,
        ages: Mapping[Cell, datetime] | None = None,  # noqa: ARG002 -- as in Backfill
    ) -> Iterator[Fetch[Key]]:
        known = self._known(storage)
        for cell in self.cells():
            if cell not in known:
                yield Fetch(TotalsKey(*cell), self.fresh_after)
        for cell, found_at in self._changed(storage):
            for key in storage.pages.missing([cell], found_at):
                yield Fetch(key, found_at)

    def progress(self, storage: Storage, index: CoverageIndex) -> Progress:
        known, progress = self._known(storage), Progress(self, Coverage())
        for cell in self.cells():
            progress.pages.add(Coverage(1, 1, 1, int(cell in known)))
        for cell, _ in self._changed(storage):
            part = index.coverage(cell)
            part.cells = part.opened = 0
            progress.pages.add(part)
        return progress

    def _known(self, storage: Storage) -> set[Cell]:
        """The cells of which the totals are known, or not to be had: in quarantine, or never fetched."""
        cells = {key.id: key.cell for cell in self.cells() for key in (TotalsKey(*cell), cell.page(1))}
        pages, failures = storage.pages.times(cells), storage.failures.times(cells)
        since = self.fresh_after or EPOCH
        return {
            cell
            for id_, cell in cells.items()
            if max(pages.get(id_, EPOCH), failures.get(id_, EPOCH)) >= since
            or cell.page(1).id not in pages  # that is the backfill's task
        }

    def _changed(self, storage: Storage) -> Iterator[tuple[Cell, datetime]]:
        return storage.pages.changed_cells(self.cells(), self.fresh_after or EPOCH)
