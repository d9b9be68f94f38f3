"""The coverage chart's data: which share of each cell's pages is stored, genres by years."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from producer.coverage import Coverage, in_quarantine
from producer.requests.backfills import Backfill
from producer.requests.request import Progress
from worker.errors import UsageError
from worker.keys import Cell

#: Viridis in six steps, dark to light: readable with every kind of colour vision, and in grey.
VIRIDIS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")
#: Cells of unknown length, outside the scale and hatched.
UNKNOWN, HATCH = "#e4e4e4", "#9a9a9a"
#: The dot on cells with pages in quarantine.
QUARANTINED = "#d81b60"


@dataclass(frozen=True)
class Grid:
    """Coverage by genre (rows, by name) and year (columns, ascending)."""

    genres: Mapping[int, str]
    years: tuple[int, ...]
    cells: Mapping[Cell, Coverage]

    def at(self, genre_id: int, year: int) -> Coverage | None:
        """The cell's coverage; None when nobody requested the cell."""
        return self.cells.get(Cell(genre_id, str(year)))

    def headline(self) -> str:
        """All cells in one line."""
        total = Coverage()
        for part in self.cells.values():
            total.add(part)
        opened = f"{total.opened:,} of {total.cells:,} cells open"
        pages = f"{total.stored:,} of {total.planned:,} known pages stored"
        return f"{pages}, {opened}{in_quarantine(total.quarantined)}"


def coverage_grid(requests: Iterable[Progress]) -> Grid:
    """Every cell that was requested, as in the first backfill that has it; UsageError for none."""
    genres: dict[int, str] = {}
    cells: dict[Cell, Coverage] = {}
    for progress in requests:
        if isinstance(progress.request, Backfill):
            genres = {**progress.request.genres, **genres}
            cells = {**progress.by_cell, **cells}
    if not cells:
        raise UsageError("nothing to draw: nothing was requested yet")
    years = [int(cell.window) for cell in cells]
    by_name = dict(sorted(genres.items(), key=lambda genre: genre[1]))
    return Grid(by_name, tuple(range(min(years), max(years) + 1)), cells)


def stored_share(part: Coverage) -> float | None:
    """Which share of the cell's pages is stored, 0 to 1; None while its length is unknown."""
    return part.stored / part.planned if part.opened else None


def has_label(year: int, columns: int) -> bool:
    """Whether the year's column has room for its number: with many columns, every fifth or tenth."""
    return year % (1 if columns <= 15 else 5 if columns <= 60 else 10) == 0
