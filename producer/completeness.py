"""Verify cells: compare the distinct movies on a cell's pages with the total that TMDB states.

Results shift while they are being fetched: in 5 of 27 recorded pairs of pages one movie stood on both pages,
and the movie it displaced on neither. So a cell can lack a movie though all its pages are stored, and only
counting distinct ids shows it.

Pages are counted together only if they agree: all state the same totals, none was requested before page 1,
and none lies beyond the end that page 1 states.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from worker.keys import Cell, PageKey
from worker.storage.database import Storage
from worker.storage.documents import PageRecord, Totals
from worker.windows import Window


class Reason(StrEnum):
    """Why a cell is not proven, the most urgent first: of several reasons, only the first is reported."""

    MISSING = "missing"
    QUARANTINED = "quarantined"
    TOO_LARGE = "too-large"
    UNREADABLE = "unreadable"
    CHANGING = "changing"
    OLDER = "older"
    TOTALS = "totals"
    SHORT = "short"
    LOST = "lost"
    SURPLUS = "surplus"


#: Fetching the whole cell again may help; the other reasons need something else.
REPAIRED = frozenset(
    {Reason.UNREADABLE, Reason.OLDER, Reason.TOTALS, Reason.SHORT, Reason.LOST, Reason.SURPLUS}
)
_ORDER = list(Reason)
#: Pages in quarantine that one line names.
SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """What is wrong with a cell, with a sentence for a person."""

    reason: Reason
    text: str


@dataclass(frozen=True)
class CellCheck:
    """One cell: how many distinct movies its pages hold, and how many TMDB states."""

    cell: Cell
    found: int
    #: None when its page 1 is not stored.
    expected: int | None
    #: Movies that TMDB counts and shows on no page, where all that it shows is stored.
    unreachable: int
    pages_missing: int
    quarantined: Sequence[PageKey]
    #: None when the cell is proven.
    problem: Problem | None


def check_cells(
    storage: Storage, cells: Iterable[Cell], on_page: Callable[[], None] = lambda: None
) -> Iterator[CellCheck]:
    """Check each cell; calls `on_page` for each page record that is read."""
    snapshot = _Snapshot(storage, on_page)
    for cell in cells:
        yield snapshot.check(cell)


@dataclass
class _StoredCell:
    """The stored pages of a cell, or of a part that it was split into."""

    cell: Cell
    #: As page 1 states them; None when that is missing or unreadable.
    totals: Totals | None = None
    #: Bit n: a record of page n exists.
    pages: int = 0
    #: The record of page 1.
    first: PageRecord | None = None
    movie_ids: array[int] = field(default_factory=lambda: array("q"))
    problems: list[Problem] = field(default_factory=list)
    parts: tuple[Cell, ...] = field(init=False)
    #: The numbers of its own pages that are needed.
    needed: range = field(init=False)

    def __post_init__(self) -> None:
        length = self.totals.pages if self.totals else 1
        self.parts, self.needed = self.cell.parts(length), self.cell.pages(length)

    def add(self, record: PageRecord) -> None:
        """Count the record's movies, or note why they cannot be counted."""
        key, totals = record.key, record.totals
        if key.page not in self.needed:
            return
        self.pages |= 1 << key.page
        if key.page == 1:
            self.first = record
        if totals is None:
            problem = Problem(Reason.UNREADABLE, f"the record of {key.id} cannot be read")
        elif self.totals is None or (key.page == 1 and totals != self.totals):
            problem = Problem(Reason.CHANGING, f"{key.id} was fetched again during the check")
        elif totals.fetched_at < self.totals.fetched_at:
            problem = Problem(Reason.OLDER, f"{key.id} was requested before its page 1")
        elif totals[:2] != self.totals[:2]:
            text = f"page 1 states {_describe(self.totals)}, {key.id} {_describe(totals)}"
            problem = Problem(Reason.TOTALS, text)
        else:
            self.movie_ids.extend(record.movie_ids)
            return
        self.problems.append(problem)


@dataclass
class _Findings:
    """What was found out about a cell and all parts that it was split into."""

    movie_ids: set[int] = field(default_factory=set)
    #: Movies that TMDB counts and shows on no page.
    unreachable: int = 0
    pages_missing: int = 0
    quarantined: list[PageKey] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def report(self, reason: Reason, text: str) -> None:
        self.problems.append(Problem(reason, text))

    def add(self, part: _Findings) -> None:
        self.movie_ids |= part.movie_ids
        self.unreachable += part.unreachable
        self.pages_missing += part.pages_missing
        self.quarantined += part.quarantined
        self.problems += part.problems


class _Snapshot:
    """What is stored, read once: the first pages, then all pages, then movies and failures."""

    def __init__(self, storage: Storage, on_page: Callable[[], None]) -> None:
        self._cells = {
            cell: _StoredCell(cell, totals) for cell, totals in storage.pages.first_pages().items()
        }
        for record in storage.pages.each():
            cell = record.key.cell
            if cell not in self._cells:
                self._cells[cell] = _StoredCell(cell)
            self._cells[cell].add(record)
            on_page()
        # Read after the pages, for movies are saved before their page.
        self._movie_ids = storage.movies.ids()
        self._quarantined: dict[Cell, list[int]] = defaultdict(list)
        for key in storage.failures.quarantined():
            if isinstance(key, PageKey):
                self._quarantined[key.cell].append(key.page)

    def check(self, cell: Cell) -> CellCheck:
        findings, stored = self._examine(cell), self._cells.get(cell)
        if lost := sum(not self._is_stored(id_) for id_ in findings.movie_ids):
            findings.report(Reason.LOST, f"{lost:,} movies of its pages are not stored")
        return CellCheck(
            cell,
            len(findings.movie_ids),
            stored.totals.results if stored and stored.totals else None,
            findings.unreachable,
            findings.pages_missing,
            findings.quarantined,
            min(findings.problems, key=lambda problem: _ORDER.index(problem.reason), default=None),
        )

    def _examine(self, cell: Cell, needed_since: datetime | None = None) -> _Findings:
        """Examine the cell and its parts; `needed_since`: when it became necessary."""
        stored = self._cells.get(cell) or _StoredCell(cell)
        needed = stored.needed
        in_quarantine = self._quarantined.get(cell, ())
        findings = _Findings(
            movie_ids=set(stored.movie_ids),
            pages_missing=sum(not stored.pages >> page & 1 and page not in in_quarantine for page in needed),
            quarantined=[cell.page(page) for page in needed if page in in_quarantine],
            problems=list(stored.problems),
        )
        if lacking := findings.pages_missing:
            text = f"{lacking:,} of {len(needed):,} pages of {cell.id} are not stored"
            findings.report(Reason.MISSING, text if stored.totals else f"{cell.id}:1 is not stored")
        if findings.quarantined:
            findings.report(Reason.QUARANTINED, f"in quarantine: {_name(findings.quarantined)}")
        if stored.totals is None:
            return findings
        pages, _, fetched_at = stored.totals
        if needed_since and fetched_at < needed_since:
            findings.report(
                Reason.OLDER, f"{cell.id}:1 was requested before its window was known to be needed"
            )
        for part in stored.parts:
            # Page 1 may have been asked for again only to compare its totals with those of the parts.
            is_recheck = stored.first is not None and stored.first.recheck > 0
            findings.add(self._examine(part, None if is_recheck else fetched_at))
            self._compare_ends(stored, part, findings)
        if cell.shows_all(pages):
            self._compare(stored, stored.totals, findings)
        return findings

    def _compare_ends(self, day: _StoredCell, part: Cell, findings: _Findings) -> None:
        """Report it if the same day from its end states other totals."""
        end = self._cells.get(part)
        if not Window.parse(part.window).descending or not end or not end.totals or not day.totals:
            return
        if end.totals[:2] != day.totals[:2]:
            text = f"{day.cell.id}:1 states {_describe(day.totals)}, {part.id}:1 {_describe(end.totals)}"
            findings.report(Reason.TOTALS, text)

    def _compare(self, stored: _StoredCell, totals: Totals, findings: _Findings) -> None:
        """Compare what was found with the totals."""
        cell = stored.cell
        found, expected = len(findings.movie_ids) + findings.unreachable, totals.results
        is_split = bool(stored.parts) and not Window.parse(cell.window).is_day
        if is_split and stored.first and stored.first.counts(found):
            return
        if found < expected and not findings.problems and cell.is_beyond_reach(totals.pages):
            findings.unreachable += expected - found
            text = f"{expected - found:,} of {expected:,} movies of {cell.id} are on no page that TMDB shows"
            findings.report(Reason.TOO_LARGE, text)
        elif found < expected:
            findings.report(
                Reason.SHORT, f"{expected - found:,} of {expected:,} movies of {cell.id} are on no page"
            )
        elif found > expected:
            findings.report(
                Reason.SURPLUS, f"{found:,} movies on the pages of {cell.id}, but TMDB states {expected:,}"
            )

    def _is_stored(self, movie_id: int) -> bool:
        place = bisect_left(self._movie_ids, movie_id)
        return place < len(self._movie_ids) and self._movie_ids[place] == movie_id


def _name(keys: Sequence[PageKey]) -> str:
    more = f" and {len(keys) - SHOWN:,} more" if len(keys) > SHOWN else ""
    return ", ".join(key.id for key in keys[:SHOWN]) + more


def _describe(totals: Totals) -> str:
    return f"{totals.results:,} movies on {totals.pages:,} pages"
