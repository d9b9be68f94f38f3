"""Drift: movies move between pages while these are fetched, so a complete cell can lack some.

Once all pages of a cell are stored they are compared with its totals. Pages that do not fit are asked for
again, each a few times at most; how many movies are missing then is noted on the record of page 1.

    other totals than page 1's    that page; page 1 instead if most pages state others than it does
    requested before page 1       that page
    a movie on two pages          both
    none of these, yet short      page 1, before which all other pages were requested then
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from worker.keys import Cell, Fetch, PageKey
from worker.storage.database import Storage
from worker.storage.documents import PageRecord, Totals
from worker.storage.mongo import EPOCH
from worker.windows import Window

#: How many times a page is asked for again until page 1 is, and after that.
RECHECKS = 3
#: How many times page 1 is asked for again, and with it the whole cell.
WHOLE = 2
#: The resolution of stored times.
_MOMENT = timedelta(milliseconds=1)


class Unchecked(NamedTuple):
    """A cell whose pages are all stored, and were not compared with its totals since the newest of them."""

    cell: Cell
    newest: datetime


class Verdict(NamedTuple):
    """What to ask for again, and how many movies are missing."""

    again: list[Fetch[PageKey]]
    short: int = 0


def rechecks(storage: Storage, unchecked: Iterable[Unchecked]) -> Iterator[Fetch[PageKey]]:
    """The pages of these cells to ask for again; the cells of which there is none are marked as checked."""
    for cell, newest in unchecked:
        verdict = _judge_cell(storage, cell)
        failed = storage.failures.times(fetch.key.id for fetch in verdict.again)
        again = [
            fetch for fetch in verdict.again if failed.get(fetch.key.id, EPOCH) < (fetch.fresh_after or EPOCH)
        ]
        yield from again
        if not again:
            storage.pages.mark_checked(cell, newest, verdict.short)


def _judge_cell(storage: Storage, cell: Cell) -> Verdict:
    pages = storage.pages.of_cell(cell)
    totals = pages[0].totals if pages else None
    if not pages or totals is None:
        return Verdict([])  # unreadable: `reelhaul verify` says so
    parts = cell.parts(totals.pages)
    if parts and not Window.parse(cell.window).is_day:
        return _judge_split(storage, pages[0], totals, parts)
    needed = [page for page in pages if page.key.page in cell.pages(totals.pages)]
    if not cell.shows_all(totals.pages) or cell.is_beyond_reach(totals.pages):
        return judge(needed, None)
    from_end = {id_ for part in parts for page in storage.pages.of_cell(part) for id_ in page.movie_ids}
    return judge(needed, totals.results, from_end)


def _judge_split(storage: Storage, first: PageRecord, totals: Totals, parts: Iterable[Cell]) -> Verdict:
    """Page 1 of a split cell counts as many movies as its halves, each of which is compared by itself."""
    found = [storage.pages.totals(part.page(1)) for part in parts]
    lacking = totals.results - sum(half.results for half in found if half)
    again = [_again(first, totals)] if lacking and first.recheck < RECHECKS else []
    return Verdict(again, max(0, lacking))


def judge(
    pages: Sequence[PageRecord], expected: int | None, elsewhere: Collection[int] = frozenset()
) -> Verdict:
    """Judge all pages of a cell, page 1 first; `expected`: how many movies they and `elsewhere` should hold.

    None: how many is not known. Pages without totals count as fitting.
    """
    readable = [(page, page.totals) for page in pages if page.totals]
    first, stated = readable[0]
    on_pages = Counter(id_ for page in pages for id_ in set(page.movie_ids))
    short = 0 if expected is None else expected - len(on_pages.keys() | set(elsewhere))
    odd = {page.key.page for page, totals in readable if totals[:2] != stated[:2]}
    older = {page.key.page for page, totals in readable if totals.fetched_at < stated.fetched_at}
    twice = {page.key.page for page in pages if any(on_pages[id_] > 1 for id_ in page.movie_ids)}
    if not odd and not older and not (short or (expected is None and twice)):
        return Verdict([])
    # Is page 1 stale, or are the pages that differ from it?
    is_first_stale = 2 * len(odd - older) > len(readable) - 1 - len(older) and first.recheck < WHOLE
    suspects = older if is_first_stale else older | odd | twice
    limit = RECHECKS * (1 + first.recheck)
    again = [
        _again(page, totals)
        for page, totals in readable
        if page.key.page in suspects - {1} and page.recheck < limit
    ]
    if not again and first.recheck < WHOLE:
        again = [_again(first, stated)]
    return Verdict(again, max(0, short))


def _again(page: PageRecord, totals: Totals) -> Fetch[PageKey]:
    return Fetch(page.key, totals.fetched_at + _MOMENT, (page.recheck + 1,))
