"""What the fleet runs: fetch a page, store it, send what its cell still lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from worker.app import app
from worker.clients import limiter, names, store, tmdb_client
from worker.errors import Claimed, NotEver, Rejected, Response, Unparsable, UsageError
from worker.keys import MAX_PAGE, PAGE_SIZE, PageKey
from worker.monitoring.metrics import count
from worker.patches.celery_messages import CheckedTask
from worker.queues import Message, publish
from worker.retry import GIVE_UP_S, GLANCE_S, Deadlines, fetch, refuse, while_away, working_on
from worker.storage.merge import Saved
from worker.storage.mongo import bounded
from worker.tmdb.responses import Page

log = structlog.get_logger(__name__)

#: The year 3000: no moment in a message is later.
LATEST_MS = 32_503_680_000_000


# What is thrown on purpose gets no traceback in the log.
@app.task(name="reelhaul.fetch_page", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_page(self: CheckedTask, genre_id: int, window: str, page: int, fresh_after_ms: int = 0) -> None:
    """Have the page stored, fetched at or after `fresh_after_ms` (milliseconds since 1970; 0: ever).

    After page 1, what the cell still lacks is sent to the lane of its kind. A page that went into
    quarantine fails the task, for Flower to show: NotEver.
    """
    key, fresh_after = _key(genre_id, window, page), _time(fresh_after_ms)
    with working_on(key, self.request.id) as deadlines:
        obtain(key, fresh_after, deadlines)
        if key.page == 1:
            lane = str((self.request.delivery_info or {}).get("routing_key"))
            lacking = while_away(lambda: list(store().missing([key.cell], fresh_after)), deadlines.task)
            with bounded(GIVE_UP_S):
                send(lacking, fresh_after_ms, lane)


def obtain(key: PageKey, fresh_after: datetime | None, deadlines: Deadlines) -> None:
    """Fetch and store the page, unless it is stored and fresh; raises as `fetch` does."""
    page = fetch(partial(_ask, key), partial(store().fresh, key, fresh_after), deadlines, key)
    if page is None:
        count("pages", "fresh")
        return
    saved = while_away(partial(_save, key, page), deadlines.task)
    log.info("stored", movies=len(page.results), new=saved.inserted, changed=saved.changed)
    _count(saved, len(page.results))


def _ask(key: PageKey, deadline: float) -> Page:
    """The page as TMDB has it; a page 1 that says its cell lost much only when another answer agrees."""
    page = tmdb_client().discover(key, deadline)
    known = while_away(partial(store().totals, key.cell), deadline) if key.page == 1 else None
    if known and known.fetched_at < page.fetched_at and _lost_much(known.pages, known.results, page):
        _confirm(key, page, deadline)
    return page


def _lost_much(pages: int, results: int, page: Page) -> bool:
    """Whether the page tells of fewer movies by more than a page, or by more than half; or of fewer pages."""
    fewer = results - page.total_results
    return fewer > PAGE_SIZE or 2 * page.total_results < results or pages - page.total_pages > 1


def _confirm(key: PageKey, first: Page, deadline: float) -> None:
    """Ask for the page beyond the end that page 1 tells: another address, and so cached apart.

    Raises Unparsable, which has page 1 asked for again, when that has movies or tells of far more.
    """
    number = min(max(first.total_pages, 1) + 1, MAX_PAGE)
    try:
        other = _unclaimed(key.cell.page(number), deadline)
    except Rejected:
        return  # TMDB has no such page
    is_beyond = number > first.total_pages
    if (is_beyond and other.results) or _lost_much(other.total_pages, other.total_results, first):
        raise Unparsable(
            f"page 1 tells {first.total_results} movies on {first.total_pages} pages, "
            f"page {number} {other.total_results} on {other.total_pages}",
            Response(200, first.body),
        )
    log.info("cell shrank", pages=first.total_pages, movies=first.total_results)


def _unclaimed(key: PageKey, deadline: float) -> Page:
    """The page, once no other slot is fetching it: until then there is no need to ask for page 1 again."""
    while True:
        try:
            return tmdb_client().discover(key, deadline)
        except Claimed as claim:
            limiter().rest(min(claim.wait_s, GLANCE_S))


def _save(key: PageKey, page: Page) -> Saved:
    if key.page == 1 and (dropped := store().trim(key.cell, page.total_pages, page.fetched_at)):
        log.info("cell is shorter", dropped=dropped)
    return store().save(key, page)


def _count(saved: Saved, movies: int) -> None:
    count("pages", "stored")
    count("movies", "new", saved.inserted)
    count("movies", "changed", saved.changed)
    count("movies", "unchanged", movies - saved.inserted - saved.changed)


def send(keys: Iterable[PageKey], fresh_after_ms: int, lane: str = "cells") -> int:
    """Enqueue the keys, and say how many: first pages into `lane`, the others into `pages`.

    What begins in `refresh` stays there. Raises BrokerAway when some may not have been sent.
    """

    def queue(key: PageKey) -> str:
        return lane if lane == "refresh" else "cells" if key.page == 1 else "pages"

    return publish(
        fetch_page, (Message((*key, fresh_after_ms), words, queue(key)) for key, words in names().of(keys))
    )


def _key(genre_id: Any, window: Any, page: Any) -> PageKey:
    """The key of a message; Reject without requeueing when it is none."""
    if not _is_key((genre_id, window, page)):
        refuse(f"not a page: {genre_id!r:.50}, {window!r:.50}, {page!r:.50}")
    return PageKey(genre_id, window, page)


def _time(milliseconds: Any) -> datetime | None:
    """The moment of a message, None for 0; Reject without requeueing when it is none."""
    if type(milliseconds) is not int or not 0 <= milliseconds < LATEST_MS:
        refuse(f"not a moment: {milliseconds!r:.50}")
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _is_key(words: Sequence[Any]) -> bool:
    if [type(word) for word in words] != [int, str, int]:
        return False
    try:
        PageKey.parse(PageKey(*words).id)
    except UsageError:
        return False
    return True
