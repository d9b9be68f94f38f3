"""Drift: movies move between pages while these are fetched, so a complete cell can lack some.

Once all pages of a cell are stored they are compared with its totals. Pages that do not fit are asked for
again, each a few times at most; how many movies are missing then is noted on the record of page 1.

    other totals than page 1's    that page; page 1 instead if most pages state others than it does
    requested before page 1       that page
    a movie on two pages          both, then more and more pages around them
    none of these, yet short      page 1, before which all other pages were requested then
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from worker.keys import Cell, Fetch, PageKey
from worker.storage.database import Storage
from worker.storage.documents import Checked, PageRecord, Totals
from worker.storage.mongo import EPOCH
from worker.windows import Window

#: How many pages to both sides are asked for again with a page that has a movie of another, each time. Every
#: second time it is that page alone, since more requests meet more movies that move.
REACH = (0, 0, 3, 0, 15, 0)
#: How many times a page is asked for again until page 1 is, and after that.
RECHECKS = len(REACH)
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
    """The pages of these cells to ask for again; the cells of which there is none are marked as checked.

    Parts come before the cell that was split into them, which waits until they are checked.
    """
    waiting: list[Cell] = []
    checks: list[tuple[Cell, Checked]] = []
    for cell, newest in unchecked:
        if any(cell.contains(part) for part in waiting):
            continue
        verdict = _judge_cell(storage, cell)
        failed = storage.failures.times(fetch.key.id for fetch in verdict.again)
        again = [
            fetch for fetch in verdict.again if failed.get(fetch.key.id, EPOCH) < (fetch.fresh_after or EPOCH)
        ]
        if again:
            waiting.append(cell)
            yield from again
        else:
            checks.append((cell, Checked(newest, verdict.short)))
    storage.pages.mark_checked(checks)


def _judge_cell(storage: Storage, cell: Cell) -> Verdict:
    pages = storage.pages.of_cell(cell)
    totals = pages[0].totals if pages else None
    if not pages or totals is None:
        return Verdict([])  # unreadable: `reelhaul verify` says so
    parts = cell.parts(totals.pages)
    if parts and not Window.parse(cell.window).is_day:
        return _judge_split(storage, pages[0], totals, parts)
    needed = [page for page in pages if page.key.page in cell.pages(totals.pages)]
    is_counted = cell.shows_all(totals.pages) and not cell.is_beyond_reach(totals.pages)
    from_end = storage.pages.of_cell(parts[0]) if parts else []
    elsewhere = {id_ for page in from_end for id_ in page.movie_ids}
    verdict = judge(needed, totals.results if is_counted else None, elsewhere)
    return (
        verdict if verdict.again or not from_end else _judge_ends(pages[0], from_end[0], short=verdict.short)
    )


def _judge_ends(*ends: PageRecord, short: int) -> Verdict:
    """Page 1 of both ends of a day must state the same totals; of two that do not, the older one is stale."""
    stated = [(page, page.totals) for page in ends if page.totals]
    stale, totals = min(stated, key=lambda one: one[1].fetched_at)
    if len({known[:2] for _, known in stated}) > 1 and stale.recheck < WHOLE:
        return Verdict([_again(stale, totals, stale.recheck)], short)
    return Verdict([], short)


def _judge_split(storage: Storage, first: PageRecord, totals: Totals, parts: Iterable[Cell]) -> Verdict:
    """Page 1 of a split cell counts as many movies as its halves, each of which is compared by itself.

    The halves were fetched later. So page 1 may also count fewer, if more when asked again, or the reverse.
    """
    stated = [storage.pages.totals(part.page(1)) for part in parts]
    found = sum(half.results for half in stated if half)
    if first.counts(found):
        return Verdict([])
    if first.recheck == 0:
        storage.pages.note_count(first.key.cell, totals.results)
    again = [_again(first, totals, first.recheck)] if first.recheck < RECHECKS else []
    return Verdict(again, max(0, totals.results - found))


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
    has_gap = short if expected is not None else any(times > 1 for times in on_pages.values())
    if not odd and not older and not has_gap:
        return Verdict([])
    # Is page 1 stale, or are the pages that differ from it?
    is_first_stale = 2 * len(odd - older) > len(readable) - 1 - len(older) and first.recheck < WHOLE
    limit = RECHECKS * (1 + first.recheck)
    rounds = dict.fromkeys(older, 0)
    if not is_first_stale:
        rounds |= dict.fromkeys(odd, 0) | _around(pages, on_pages, limit)
    again = [
        _again(page, totals, max(page.recheck, rounds[page.key.page]))
        for page, totals in readable
        if page.key.page in rounds and page.key.page > 1 and page.recheck < limit
    ]
    if not again and first.recheck < WHOLE:
        again = [_again(first, stated, first.recheck)]
    return Verdict(again, max(0, short))


def _around(pages: Iterable[PageRecord], on_pages: Mapping[int, int], limit: int) -> dict[int, int]:
    """The pages around those with a movie that another page has too, and how often they were asked for again.

    Where that did not help, the gap has moved along, by some pages of REACH.
    """
    places: defaultdict[int, list[PageRecord]] = defaultdict(list)
    for page in pages:
        for id_ in set(page.movie_ids):
            if on_pages[id_] > 1:
                places[id_].append(page)
    found: dict[int, int] = {}
    for together in places.values():
        rechecks = max(page.recheck for page in together)
        reach = REACH[rechecks % RECHECKS]
        numbers = (page.key.page + step for page in together for step in range(-reach, reach + 1))
        if rechecks < limit:
            found |= {number: max(found.get(number, 0), rechecks) for number in numbers}
    return found


def _again(page: PageRecord, totals: Totals, rechecks: int) -> Fetch[PageKey]:
    return Fetch(page.key, totals.fetched_at + _MOMENT, (rechecks + 1,))
