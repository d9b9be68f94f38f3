"""The proof: every cell's distinct movies against what TMDB says it holds, and where it fails, why.

Pages shift while they are read: in 5 of 27 recorded pairs of pages one movie stood on both, and the one
it displaced on neither. A cell whose pages are all stored can so be short of a movie, and only counting
distinct ids tells.

Only pages that belong together can be counted: all of one length, none asked for before page 1 was, none
beyond the end that page 1 tells. What else is stored proves nothing, and may hide a gap.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from worker.keys import MAX_PAGE, Cell, PageKey
from worker.storage.database import Storage
from worker.storage.documents import PageRecord, Totals


class Reason(StrEnum):
    """Why a cell is not proven. Of several the first in this order is told: what to see to first."""

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


#: Fetching all of the cell again may help; the others need something else.
REPAIRED = frozenset(
    {Reason.UNREADABLE, Reason.OLDER, Reason.TOTALS, Reason.SHORT, Reason.LOST, Reason.SURPLUS}
)
_ORDER = list(Reason)
#: Pages named in one line for a person.
SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """What is wrong with a cell, in words for a person."""

    reason: Reason
    text: str


@dataclass(frozen=True)
class CellCheck:
    """One cell: how many distinct movies its pages hold, how many TMDB says there are."""

    cell: Cell
    found: int
    #: None: its page 1 is not stored.
    said: int | None
    pages_missing: int
    quarantined: Sequence[PageKey]
    #: None: the cell is proven.
    problem: Problem | None


@dataclass
class _Part:
    """What is stored of one query: of a cell, or of a window that it was split into."""

    cell: Cell
    #: As page 1 tells.
    totals: Totals
    #: Bit n: a record of page n is there.
    stored: int = 0
    ids: array[int] = field(default_factory=lambda: array("q"))
    problems: list[Problem] = field(default_factory=list)
    halves: tuple[Cell, ...] = field(init=False)
    #: How many pages of this query itself are needed.
    needed: int = field(init=False)

    def __post_init__(self) -> None:
        pages = self.totals.pages
        self.halves = self.cell.halves() if pages > MAX_PAGE else ()
        self.needed = 1 if self.halves else min(max(pages, 1), MAX_PAGE)

    def add(self, record: PageRecord) -> None:
        """Count the record in, if it proves something."""
        key, totals = record.key, record.totals
        if key.page > self.needed:
            return
        self.stored |= 1 << key.page
        if totals is None:
            self.problems.append(_unreadable(record))
        elif key.page == 1 and totals != self.totals:
            self.problems.append(_odd(record))
        elif totals.fetched_at < self.totals.fetched_at:
            self.problems.append(Problem(Reason.OLDER, f"{key.id} was asked for before its page 1"))
        elif totals[:2] != self.totals[:2]:
            text = f"page 1 tells {_words(self.totals)}, {key.id} {_words(totals)}"
            self.problems.append(Problem(Reason.TOTALS, text))
        else:
            self.ids.extend(record.movie_ids)


@dataclass
class _Verdict:
    """On a query with all that it was split into."""

    ids: set[int] = field(default_factory=set)
    pages_missing: int = 0
    quarantined: list[PageKey] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, part: _Verdict) -> None:
        self.ids |= part.ids
        self.pages_missing += part.pages_missing
        self.quarantined += part.quarantined
        self.problems += part.problems


def check_cells(
    storage: Storage, cells: Iterable[Cell], on_page: Callable[[], None] = lambda: None
) -> Iterator[CellCheck]:
    """A check of each cell; `on_page` for each page read."""
    reading = _Reading(storage, on_page)
    for cell in cells:
        yield reading.check(cell)


class _Reading:
    """What is stored, read once: first pages, then all, then what there is of movies and failures."""

    def __init__(self, storage: Storage, on_page: Callable[[], None]) -> None:
        self._parts = {cell: _Part(cell, totals) for cell, totals in storage.pages.first_pages().items()}
        #: Cells whose page 1 is there and was not read as one.
        self._odd: dict[Cell, Problem] = {}
        for record in storage.pages.each():
            if part := self._parts.get(record.key.cell):
                part.add(record)
            elif record.key.page == 1:
                self._odd[record.key.cell] = _odd(record)
            on_page()
        # After the pages: a movie is stored before its page is.
        self._movies = storage.movies.ids()
        self._quarantined: dict[Cell, list[int]] = defaultdict(list)
        for key in storage.failures.quarantined():
            if isinstance(key, PageKey):
                self._quarantined[key.cell].append(key.page)

    def check(self, cell: Cell) -> CellCheck:
        verdict, part = self._judge(cell), self._parts.get(cell)
        if lost := sum(not self._is_stored(id_) for id_ in verdict.ids):
            verdict.problems.append(Problem(Reason.LOST, f"{lost:,} movies of its pages are not stored"))
        return CellCheck(
            cell,
            len(verdict.ids),
            part.totals.results if part else None,
            verdict.pages_missing,
            verdict.quarantined,
            min(verdict.problems, key=lambda problem: _ORDER.index(problem.reason), default=None),
        )

    def _judge(self, cell: Cell, since: datetime | None = None) -> _Verdict:
        """`since`: when it was told that this window is needed."""
        part, failed = self._parts.get(cell), self._quarantined.get(cell, ())
        needed = range(1, (part.needed if part else 1) + 1)
        stored = part.stored if part else 0b10 * (cell in self._odd)
        verdict = _Verdict(
            ids=set(part.ids) if part else set(),
            pages_missing=sum(not stored >> number & 1 and number not in failed for number in needed),
            quarantined=[cell.page(number) for number in needed if number in failed],
            problems=list(part.problems) if part else [self._odd[cell]] if cell in self._odd else [],
        )
        if verdict.pages_missing:
            text = f"{verdict.pages_missing:,} of {len(needed):,} pages of {cell.id} are not stored"
            verdict.problems.append(Problem(Reason.MISSING, text if part else f"{cell.id}:1 is not stored"))
        if verdict.quarantined:
            verdict.problems.append(Problem(Reason.QUARANTINED, _in_quarantine(verdict.quarantined)))
        if part:
            self._judge_whole(part, verdict, since)
        return verdict

    def _judge_whole(self, part: _Part, verdict: _Verdict, since: datetime | None) -> None:
        """What the halves add, and the count in the end."""
        cell, (pages, said, fetched_at) = part.cell, part.totals
        if since and fetched_at < since:
            text = f"{cell.id}:1 was asked for before it was told that its window is needed"
            verdict.problems.append(Problem(Reason.OLDER, text))
        if pages > MAX_PAGE and not part.halves:
            text = f"{cell.id} has {pages:,} pages, TMDB shows {MAX_PAGE}, and a single day cannot be split"
            verdict.problems.append(Problem(Reason.TOO_LARGE, text))
        for half in part.halves:
            verdict.add(self._judge(half, fetched_at))
        found = len(verdict.ids)
        if found < said:
            text = f"{said - found:,} of {said:,} movies of {cell.id} on no page"
            verdict.problems.append(Problem(Reason.SHORT, text))
        elif found > said:
            text = f"{found:,} movies on the pages of {cell.id}, where TMDB says {said:,}"
            verdict.problems.append(Problem(Reason.SURPLUS, text))

    def _is_stored(self, movie_id: int) -> bool:
        place = bisect_left(self._movies, movie_id)
        return place < len(self._movies) and self._movies[place] == movie_id


def _odd(record: PageRecord) -> Problem:
    """Of a page 1 that was not there, or not read, when the first pages were."""
    if record.totals is None:
        return _unreadable(record)
    return Problem(Reason.CHANGING, f"{record.key.id} was fetched while it was looked at")


def _unreadable(record: PageRecord) -> Problem:
    return Problem(Reason.UNREADABLE, f"the record of {record.key.id} cannot be read")


def _in_quarantine(keys: Sequence[PageKey]) -> str:
    more = f" and {len(keys) - SHOWN:,} more" if len(keys) > SHOWN else ""
    return f"in quarantine: {', '.join(key.id for key in keys[:SHOWN])}{more}"


def _words(totals: Totals) -> str:
    return f"{totals.results:,} movies on {totals.pages:,} pages"
