"""The tasks, one for each kind of key, and what they all do: fetch, save, enqueue what follows.

`worker.kinds` says for each kind what that means.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog
from celery import Task

from worker.app import CELLS, MOVIES, PAGES, REFRESH, REFRESH_CELLS, app
from worker.clients import active_requests, labels, storage, tmdb_client
from worker.errors import NotEver, Rejected, UsageError
from worker.keys import ChangesKey, Fetch, Key, MovieKey, PageKey, PopularKey, TotalsKey, parse_key
from worker.kinds import kind_of
from worker.monitoring.metrics import count
from worker.patches.celery_strategy import CheckedTask
from worker.queues import REQUEST, Message, publish
from worker.retry import QUARANTINE_S, Attempts, Deadlines, message_outcome, reject, retry_storage
from worker.shrinkage import confirm_shrinkage
from worker.storage.mongo import bounded

log = structlog.get_logger(__name__)

#: The year 3000: a later time in a message is malformed.
LATEST_MS = 32_503_680_000_000


# What is in `throws` is logged without a traceback.
@app.task(name="reelhaul.fetch_page", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_page(  # noqa: PLR0913, PLR0917 -- the message's arguments
    self: CheckedTask, genre_id: int, window: str, page: int, fresh_after_ms: int = 0, recheck: int = 0
) -> None:
    """Fetch a page of a cell, unless it is stored and was requested since `fresh_after_ms` (0: ever).

    After page 1, enqueue what the cell still lacks. A quarantined page fails the task with NotEver.
    `recheck`: how many times it was asked for again because its cell's pages do not fit together.
    """
    _run(self, PageKey(genre_id, window, page), fresh_after_ms, (recheck,) if recheck != 0 else ())


@app.task(name="reelhaul.fetch_totals", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_totals(self: CheckedTask, genre_id: int, window: str, fresh_after_ms: int = 0) -> None:
    """Fetch a cell's totals, as fetch_page; if they have changed, enqueue the cell."""
    _run(self, TotalsKey(genre_id, window), fresh_after_ms)


@app.task(name="reelhaul.fetch_popular", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_popular(self: CheckedTask, page: int, fresh_after_ms: int = 0, pages: int = 1) -> None:
    """Fetch a page of the most popular movies, as fetch_page; after page 1, enqueue those up to `pages`."""
    _run(self, PopularKey(page), fresh_after_ms, (pages,))


@app.task(name="reelhaul.fetch_changes", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_changes(  # noqa: PLR0913, PLR0917 -- the message's arguments
    self: CheckedTask, day: str, page: int, fresh_after_ms: int = 0, again: int = 0, new: int = 0
) -> None:
    """Fetch a page of a day's changes, as fetch_page; enqueue the movies on it, after page 1 other pages.

    `again`: 1 for movies that were fetched since they were listed today; `new`: 1 also for those not stored.
    """
    _run(self, ChangesKey(day, page), fresh_after_ms, (again, new))


@app.task(name="reelhaul.fetch_movie", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_movie(self: CheckedTask, movie_id: int, fresh_after_ms: int = 0, parts: str | None = None) -> None:
    """Fetch a single movie, as fetch_page; mark it as gone if TMDB does not have it.

    `parts`: None for its list item, a comma-separated list (or "") for its details with these parts.
    """
    _run(self, MovieKey(movie_id), fresh_after_ms, (parts,))


TASKS: dict[type[Key], Task[Any, Any]] = {
    PageKey: fetch_page,
    TotalsKey: fetch_totals,
    PopularKey: fetch_popular,
    ChangesKey: fetch_changes,
    MovieKey: fetch_movie,
}


def _run(task: CheckedTask, key: Key, fresh_after_ms: Any, options: tuple[Any, ...] = ()) -> None:
    """Fetch what the message asks for, save it, enqueue what follows.

    A malformed message is rejected; one of a cancelled request is acknowledged, and nothing else happens.
    """
    fetch = _parse(key, fresh_after_ms, options)._replace(request=str(task.request.get(REQUEST) or ""))
    with message_outcome(fetch, task.request.id) as deadlines:
        if not retry_storage(lambda: active_requests().includes(fetch.request), deadlines.waiting):
            log.debug("cancelled", request=fetch.request)
            count("fetches", kind_of(key).name, "cancelled")
            return
        fetch_and_save(fetch, deadlines)
        following = retry_storage(lambda: list(kind_of(key).follow(storage(), fetch)), deadlines.task)
        if following:
            queue = str((task.request.delivery_info or {}).get("routing_key"))
            with bounded(QUARANTINE_S):  # labels are read from MongoDB
                enqueue((one._replace(request=fetch.request) for one in following), queue)


def fetch_and_save(fetch: Fetch[Key], deadlines: Deadlines) -> None:
    """Fetch and save unless it is done; raises as Attempts and retry_storage do."""
    key, kind = fetch.key, kind_of(fetch.key)
    requests = retry_storage(lambda: kind.requests(storage(), fetch), deadlines.waiting)
    try:
        for attempt in Attempts(deadlines, key, requests):  # ends after the attempt that succeeds
            if retry_storage(lambda: kind.is_done(storage(), fetch), deadlines.waiting):
                count("fetches", kind.name, "fresh")
                return
            with attempt:
                answer = tmdb_client().get(key, requests, deadlines.waiting)
                if isinstance(key, PageKey) and key.page == 1:
                    confirm_shrinkage(key.cell, answer, deadlines.waiting)
    except Rejected as error:
        requested_at = error.requested_at
        save_gone = kind.save_gone
        if not error.not_found or requested_at is None or save_gone is None:
            raise
        retry_storage(lambda: save_gone(storage(), fetch, requested_at), deadlines.task)
        log.info("gone")
        count("fetches", kind.name, "gone")
        return
    received = retry_storage(lambda: kind.save(storage(), fetch, answer), deadlines.task)
    log.info("saved", movies=received.movies, new=received.inserted, changed=received.changed)
    count("fetches", kind.name, "stored")
    for change, number in received.by_change().items():
        count("movies", kind.name, change, number)


def enqueue(fetches: Iterable[Fetch[Key]], queue: str = CELLS) -> int:
    """Enqueue the fetches and return how many: each in the queue of its kind, or in a refresh's two.

    A cell's first page waits behind the pages of open cells, or Redis would hold all pages at once.
    Raises RedisUnavailable when some may not have been sent.
    """
    refreshes = queue in {REFRESH, REFRESH_CELLS}

    def queue_of(key: Key) -> str:
        opens_cell = isinstance(key, PageKey) and key.page == 1
        if refreshes or isinstance(key, ChangesKey | TotalsKey):
            return REFRESH_CELLS if opens_cell else REFRESH
        return MOVIES if isinstance(key, MovieKey) else CELLS if key.page == 1 else PAGES

    return publish(
        Message(TASKS[type(fetch.key)], fetch.args, label, queue_of(fetch.key), fetch.request)
        for fetch, label in labels().of(fetches)
    )


def _parse(key: Key, fresh_after_ms: Any, options: tuple[Any, ...]) -> Fetch[Key]:
    """Return what the message asks for, or reject the message."""
    with suppress(UsageError):
        if parse_key(key.id) == key and kind_of(key).accepts(options):
            return Fetch(key, _parse_time(fresh_after_ms), options)
    return reject(f"not a {kind_of(key).name}: {', '.join(f'{part!r:.50}' for part in (*key, *options))}")


def _parse_time(milliseconds: Any) -> datetime | None:
    """Return the message's time, None for 0, or reject the message."""
    if type(milliseconds) is not int or not 0 <= milliseconds < LATEST_MS:
        reject(f"not a time: {milliseconds!r:.50}")
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
