"""The task for pages: fetch one, save it, and enqueue the pages that its cell still lacks."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from worker.app import app
from worker.clients import limiter, page_labels, storage, tmdb_client
from worker.errors import Claimed, NotEver, Rejected, Unparsable, UsageError
from worker.keys import MAX_PAGE, PAGE_SIZE, Cell, PageKey
from worker.monitoring.metrics import count
from worker.patches.celery_strategy import CheckedTask
from worker.queues import Message, publish
from worker.records import Page, Response
from worker.retry import (
    CLAIM_POLL_S,
    QUARANTINE_S,
    Attempts,
    Deadlines,
    message_outcome,
    reject,
    retry_storage,
)
from worker.storage.mongo import bounded

log = structlog.get_logger(__name__)

#: The year 3000: a later time in a message is malformed.
LATEST_MS = 32_503_680_000_000


# What is in `throws` is logged without a traceback.
@app.task(name="reelhaul.fetch_page", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_page(self: CheckedTask, genre_id: int, window: str, page: int, fresh_after_ms: int = 0) -> None:
    """Fetch the page, unless it is stored and was requested since `fresh_after_ms` (since 1970; 0: ever).

    After page 1, enqueue what the cell still lacks. A quarantined page fails the task with NotEver.
    """
    key, fresh_after = _parse_key(genre_id, window, page), _parse_time(fresh_after_ms)
    with message_outcome(key, self.request.id) as deadlines:
        fetch_and_save(key, fresh_after, deadlines)
        if key.page == 1:
            queue = str((self.request.delivery_info or {}).get("routing_key"))
            missing = retry_storage(
                lambda: list(storage().pages.missing([key.cell], fresh_after)), deadlines.task
            )
            with bounded(QUARANTINE_S):  # labels are read from MongoDB
                enqueue_pages(missing, fresh_after_ms, queue)


def fetch_and_save(key: PageKey, fresh_after: datetime | None, deadlines: Deadlines) -> None:
    """Fetch and save the page unless it is fresh; raises as Attempts and retry_storage do."""
    for attempt in Attempts(key, deadlines):  # ends after the attempt that succeeds
        if retry_storage(lambda: storage().pages.is_fresh(key, fresh_after), deadlines.waiting):
            count("pages", "fresh")
            return
        with attempt:
            page = tmdb_client().discover(key, deadlines.waiting)
            if key.page == 1:
                _confirm_shrinkage(key.cell, page, deadlines.waiting)
    if key.page == 1:  # before it is saved, so that no record beyond its end counts as stored
        dropped = retry_storage(
            lambda: storage().pages.drop_beyond(key.cell, page.total_pages, page.fetched_at), deadlines.task
        )
        if dropped:
            log.info("cell is shorter", dropped=dropped)
    saved = retry_storage(lambda: storage().pages.save(key, page), deadlines.task)
    movies = len(page.results)
    log.info("page saved", movies=movies, new=saved.inserted, changed=saved.changed)
    count("pages", "stored")
    count("movies", "new", saved.inserted)
    count("movies", "changed", saved.changed)
    count("movies", "unchanged", movies - saved.inserted - saved.changed)


def enqueue_pages(keys: Iterable[PageKey], fresh_after_ms: int, queue: str = "cells") -> int:
    """Enqueue the pages and return how many: first pages in `queue`, the others in `pages`.

    Everything goes to `refresh` if that is `queue`. Raises RedisUnavailable when some may not have been sent.
    """

    def queue_of(key: PageKey) -> str:
        return queue if queue == "refresh" else "cells" if key.page == 1 else "pages"

    labelled = page_labels().of(keys)
    return publish(
        fetch_page, (Message((*key, fresh_after_ms), label, queue_of(key)) for key, label in labelled)
    )


def _confirm_shrinkage(cell: Cell, first: Page, deadline: float) -> None:
    """If page 1 counts far fewer movies than before, check with a page beyond the new end, cached apart.

    Raises Unparsable when that page has movies or counts many more: page 1 is then requested again.
    """
    known = retry_storage(lambda: storage().pages.totals(cell), deadline)
    if not known or known.fetched_at >= first.fetched_at or not _lost_much(known.pages, known.results, first):
        return
    number = min(max(first.total_pages, 1) + 1, MAX_PAGE)
    try:
        other = _discover_unclaimed(cell.page(number), deadline)
    except Rejected:
        return  # TMDB has no such page
    is_beyond = number > first.total_pages
    if (is_beyond and other.results) or _lost_much(other.total_pages, other.total_results, first):
        raise Unparsable(
            f"page 1 counts {first.total_results} movies on {first.total_pages} pages, "
            f"page {number} {other.total_results} on {other.total_pages}",
            Response(200, first.body),
        )
    log.info("cell shrank", pages=first.total_pages, movies=first.total_results)


def _lost_much(pages: int, results: int, page: Page) -> bool:
    """Whether the page counts fewer movies, by over PAGE_SIZE or half, or fewer pages, by more than one."""
    fewer = results - page.total_results
    return fewer > PAGE_SIZE or 2 * page.total_results < results or pages - page.total_pages > 1


def _discover_unclaimed(key: PageKey, deadline: float) -> Page:
    """Request the page, waiting while another thread is fetching it."""
    while True:
        try:
            return tmdb_client().discover(key, deadline)
        except Claimed as claim:
            limiter().sleep(min(claim.wait_s, CLAIM_POLL_S))


def _parse_key(genre_id: Any, window: Any, page: Any) -> PageKey:
    """Return the message's key, or reject the message."""
    with suppress(UsageError):
        if [type(part) for part in (genre_id, window, page)] == [int, str, int]:
            return PageKey.parse(PageKey(genre_id, window, page).id)
    return reject(f"not a page: {genre_id!r:.50}, {window!r:.50}, {page!r:.50}")


def _parse_time(milliseconds: Any) -> datetime | None:
    """Return the message's time, None for 0, or reject the message."""
    if type(milliseconds) is not int or not 0 <= milliseconds < LATEST_MS:
        reject(f"not a time: {milliseconds!r:.50}")
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
