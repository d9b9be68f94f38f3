"""The kinds of what is fetched: for each kind of key its request, how it is saved and what follows from it.

    page      a page of a cell's movies; from page 1 follow the pages that the cell lacks
    totals    page 1 of a cell, to see whether the cell has changed; then the whole cell follows
    popular   a page of the most popular movies; from page 1 follow the pages up to the one asked for
    changes   a page of a day's changed movies, which follow; from page 1 also the day's other pages
    movie     a single movie: its list item and, if asked for or stored before, its details

The page's record, or the movie, says that a fetch is done. What follows is computed from what is stored. So a
message that is delivered again sends what the first delivery may not have sent.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from worker.keys import (
    PAGES,
    ChangesDay,
    ChangesKey,
    Fetch,
    Key,
    MovieKey,
    PagedList,
    PageKey,
    PopularKey,
    PopularList,
    TotalsKey,
)
from worker.records import Details, Page
from worker.storage.changes import Scope
from worker.storage.database import Storage
from worker.storage.mongo import EPOCH
from worker.storage.movies import PARTS
from worker.tmdb import endpoints
from worker.tmdb.endpoints import ApiRequest

Requests = Callable[[Any], ApiRequest[Any]]
Following = Iterable[Fetch[Key]]


class Received(NamedTuple):
    """How many movies a response held, and how many of them were inserted and changed."""

    movies: int
    inserted: int = 0
    changed: int = 0

    def by_change(self) -> dict[str, int]:
        """How many were new, changed and unchanged."""
        unchanged = self.movies - self.inserted - self.changed
        return {"new": self.inserted, "changed": self.changed, "unchanged": unchanged}


def _has_record(storage: Storage, fetch: Fetch[Any]) -> bool:
    return storage.pages.is_fresh(fetch.key, fetch.fresh_after)


class Kind(NamedTuple):
    """One kind, by functions of the storage and the fetch. All raise MongoUnavailable."""

    #: In metrics.
    name: str
    #: The request, with its parser, for the fetch's key or a similar one.
    requests: Callable[[Storage, Fetch[Any]], Requests]
    #: Saves the parsed response; raises Unstorable.
    save: Callable[[Storage, Fetch[Any], Any], Received]
    #: What is to be fetched next.
    follow: Callable[[Storage, Fetch[Any]], Following]
    #: Whether what the fetch asks for is stored.
    is_done: Callable[[Storage, Fetch[Any]], bool] = _has_record
    #: Saves that TMDB had no such thing at that moment; None if that is a failure.
    save_gone: Callable[[Storage, Fetch[Any], datetime], None] | None = None
    #: Whether these are options of its task.
    accepts: Callable[[tuple[Any, ...]], bool] = lambda options: not options


def kind_of(key: Key) -> Kind:
    """The key's kind."""
    return _KINDS[type(key)]


def _save_page(storage: Storage, fetch: Fetch[PageKey], page: Page) -> Received:
    key = fetch.key
    if key.page == 1:  # before it is saved, so that no record beyond its end counts as stored
        storage.pages.drop_beyond(key.cell, page.total_pages, page.fetched_at)
    recheck = fetch.options[0] if fetch.options else 0
    return Received(len(page.results), *storage.pages.save(key, page, recheck))


def _follow_page(storage: Storage, fetch: Fetch[PageKey]) -> Following:
    if fetch.options:  # it alone was asked for again: the cell's other pages may be as old as they are
        fetch = Fetch(fetch.key)
    return _pages(storage, fetch, fetch.key.page, fetch.key.cell)


def _save_totals(storage: Storage, fetch: Fetch[TotalsKey], page: Page) -> Received:
    storage.pages.save_record(fetch.key, page)
    return Received(0)


def _follow_totals(storage: Storage, fetch: Fetch[TotalsKey]) -> Following:
    changed = storage.pages.changed_cells([fetch.key.cell], fetch.fresh_after or EPOCH)
    return (Fetch(cell.page(1), found_at) for cell, found_at in changed)


def _save_popular(storage: Storage, fetch: Fetch[PopularKey], page: Page) -> Received:
    return Received(len(page.results), *storage.pages.save(fetch.key, page))


def _follow_popular(storage: Storage, fetch: Fetch[PopularKey]) -> Following:
    (pages,) = fetch.options
    return _pages(storage, fetch, fetch.key.page, PopularList(pages))


def _save_changes(storage: Storage, fetch: Fetch[ChangesKey], page: Page) -> Received:
    storage.changes.save(fetch.key, page)
    return Received(0)


def _follow_changes(storage: Storage, fetch: Fetch[ChangesKey]) -> Following:
    key, (again, new) = fetch.key, fetch.options
    yield from _pages(storage, fetch, key.page, ChangesDay(key.day))
    scope = Scope((key.day,), fetch.fresh_after if again else None, bool(new))
    changed = storage.changes.changed(scope, storage.changes.listed(key))
    for movie_id, moment in changed.lacking.items():
        yield Fetch(MovieKey(movie_id), moment, (None,))


def _movie_requests(storage: Storage, fetch: Fetch[MovieKey]) -> Requests:
    stored = storage.movies.stored_parts(fetch.key.movie_id) or ()
    return partial(endpoints.details, append=sorted({*_parts(fetch), *stored}))


def _is_movie_done(storage: Storage, fetch: Fetch[MovieKey]) -> bool:
    id_, fresh_after = fetch.key.movie_id, fetch.fresh_after
    had_none_at = storage.pages.times([fetch.key.id]).get(fetch.key.id, EPOCH)
    if fresh_after and had_none_at >= fresh_after:
        return True
    if fetch.options[0] is not None:
        return storage.movies.has_details(id_, fresh_after, _parts(fetch))
    fetched_at = storage.movies.times([id_]).get(id_)
    return fetched_at is not None and fetched_at >= (fresh_after or EPOCH)


def _save_movie(storage: Storage, fetch: Fetch[MovieKey], details: Details) -> Received:
    whole = fetch.options[0] is not None
    return Received(1, *storage.movies.save_details(fetch.key, details, whole=whole))


def _save_gone_movie(storage: Storage, fetch: Fetch[MovieKey], at: datetime) -> None:
    storage.movies.tombstone([fetch.key.movie_id], at)
    if not storage.movies.times([fetch.key.movie_id]):
        storage.pages.save_gone(fetch.key, at)


def _are_parts(options: tuple[Any, ...]) -> bool:
    parts = options[0]
    return parts is None or (isinstance(parts, str) and {*parts.split(",")} <= {"", *PARTS})


def _parts(fetch: Fetch[MovieKey]) -> list[str]:
    return [part for part in str(fetch.options[0] or "").split(",") if part]


def _pages(storage: Storage, fetch: Fetch[Any], page: int, whole: PagedList) -> Following:
    """After page 1, the pages that the list lacks; fetched as that page."""
    missing = storage.pages.missing([whole], fetch.fresh_after) if page == 1 else ()
    # Not itself: with a time from a clock that was ahead it would follow itself until that time comes.
    return (Fetch(key, fetch.fresh_after, fetch.options) for key in missing if key != fetch.key)


_KINDS: dict[type[Key], Kind] = {
    PageKey: Kind(
        "page",
        lambda *_: endpoints.discover,
        _save_page,
        _follow_page,
        accepts=lambda options: not options or (type(options[0]) is int and options[0] > 0),  # rechecks
    ),
    TotalsKey: Kind("totals", lambda *_: endpoints.totals, _save_totals, _follow_totals),
    PopularKey: Kind(
        "popular",
        lambda *_: endpoints.popular,
        _save_popular,
        _follow_popular,
        accepts=lambda options: type(options[0]) is int and options[0] in PAGES,  # how many are wanted
    ),
    ChangesKey: Kind(
        "changes",
        lambda *_: endpoints.changes,
        _save_changes,
        _follow_changes,
        accepts=lambda options: all(type(flag) is int and flag in (0, 1) for flag in options),  # again, new
    ),
    MovieKey: Kind(
        "movie",
        _movie_requests,
        _save_movie,
        lambda *_: (),
        is_done=_is_movie_done,
        save_gone=_save_gone_movie,
        accepts=_are_parts,  # None: the list item; "" or "credits,keywords": the details
    ),
}
