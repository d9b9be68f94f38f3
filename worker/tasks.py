"""What the fleet runs: fetch a page, store it, send what its cell still lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn, TypeVar

import structlog
from celery.exceptions import Reject
from kombu import exceptions as kombu_errors

from worker.app import LANES, app
from worker.bootstrap import fleet_now, limiter, names, store, tmdb_client
from worker.errors import (
    ApiTrouble,
    BrokerAway,
    Claimed,
    Forbidden,
    NoPermit,
    NotEver,
    NotNow,
    Poison,
    RateLimited,
    StoreAway,
    Unexpected,
    UsageError,
)
from worker.merge import Saved
from worker.messages import CheckedTask
from worker.metrics import count, spent
from worker.pages import PageKey

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds a slot waits for a token before its message goes back to the queue.
SLOT_S = 30.0
#: Seconds within which a task ends, one way or the other: the wait, one request (12 s) and its storing.
TASK_S = 48.0
#: A page that fails this often while the API is well is poison.
TRIES = 5
#: Seconds between two looks at a page that another slot is fetching.
GLANCE_S = 0.5
#: How publishing fails; the stubs are older than kombu 5.7, which has both.
UNSENT = (kombu_errors.OperationalError, kombu_errors.BatchPublishError)  # type: ignore[attr-defined]
#: The year 3000: no moment in a message is later.
LATEST_MS = 32_503_680_000_000
#: Messages in one round trip to the broker.
SENT_AT_ONCE = 500


class PageTask(CheckedTask):
    """A task on a page: a failure that nobody foresaw puts the page into quarantine too."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ARG002
        """Called by Celery, which logs the traceback itself."""
        if _is_key(args[:3]) and not isinstance(exc, NotEver):
            give_up(PageKey(*args[:3]), Unexpected(f"{type(exc).__name__}: {exc}"))


# What is thrown on purpose gets no traceback in the log.
@app.task(name="reelhaul.fetch_page", base=PageTask, bind=True, throws=(NotEver,))
def fetch_page(self: PageTask, genre_id: int, window: str, page: int, fresh_after_ms: int = 0) -> None:
    """Have the page stored, fetched at or after `fresh_after_ms` (milliseconds since 1970; 0: ever).

    After page 1, what the cell still lacks is sent to the lane of its kind. A page that went into
    quarantine fails the task, for Flower to show: NotEver.
    """
    key, fresh_after = _key(genre_id, window, page), _time(fresh_after_ms)
    with structlog.contextvars.bound_contextvars(page=key.id, task=self.request.id), spent("task"):
        try:
            try:
                obtain(key, fresh_after)
            except NotEver as trouble:
                give_up(key, trouble)
                raise
            else:
                if key.page == 1:
                    lane = str((self.request.delivery_info or {}).get("routing_key"))
                    send(store().missing([key.cell], fresh_after), fresh_after_ms, lane)
        except (NotNow, Forbidden) as trouble:
            log.debug("back to the queue", reason=str(trouble))
            raise Reject(str(trouble), requeue=True) from None


def give_up(key: PageKey, trouble: NotEver) -> None:
    """Into quarantine with it."""
    log.warning("quarantined", reason=str(trouble))
    count("pages", "quarantined")
    count("quarantined", type(trouble).__name__.lower())
    _while_away(lambda: store().quarantine(key, trouble, fleet_now()), time.monotonic() + SLOT_S)


def obtain(key: PageKey, fresh_after: datetime | None) -> None:
    """Fetch and store the page, unless it is stored and fresh.

    Waits out what is only for now: raises NotNow when that takes too long for a slot, NotEver for what
    belongs into quarantine, Forbidden when the key does not work.
    """
    begun, tries = time.monotonic(), 0
    deadline = begun + SLOT_S
    while True:
        if _while_away(lambda: store().fresh(key, fresh_after), deadline):
            count("pages", "fresh")
            return
        try:
            page = tmdb_client().discover(key, deadline)
        except RateLimited:
            continue  # the gate has been told; wait there
        except Claimed as claim:
            if time.monotonic() > deadline:
                raise NoPermit("claimed elsewhere for too long") from None
            limiter().rest(min(claim.wait_s, GLANCE_S))
        except ApiTrouble as trouble:
            tries += 1
            log.warning("trouble", reason=str(trouble), tries=tries)
            if tries >= TRIES:
                raise Poison(f"{tries} tries: {trouble}", trouble.response) from None
        else:
            saved = _while_away(partial(store().save, key, page), begun + TASK_S)
            log.info("stored", movies=len(page.results), new=saved.inserted, changed=saved.changed)
            _count(saved, len(page.results))
            return


def _count(saved: Saved, movies: int) -> None:
    count("pages", "stored")
    count("movies", "new", saved.inserted)
    count("movies", "changed", saved.changed)
    count("movies", "unchanged", movies - saved.inserted - saved.changed)


def send(keys: Iterable[PageKey], fresh_after_ms: int, lane: str = LANES[-1]) -> int:
    """Enqueue the keys, and say how many: first pages into `lane`, the others into `pages`.

    What begins in `refresh` stays there. Raises BrokerAway when some may not have been sent.
    """
    sent = 0
    try:
        with app.producer_or_acquire() as producer, producer.batch(max_size=SENT_AT_ONCE):
            for key, words in names().of(keys):
                queue = lane if lane == "refresh" else "cells" if key.page == 1 else "pages"
                fetch_page.apply_async(  # type: ignore[call-arg] # the stubs lack argsrepr
                    args=(*key, fresh_after_ms),
                    queue=queue,
                    producer=producer,
                    argsrepr=words,
                    kwargsrepr="",
                )
                sent += 1
    except UNSENT as error:
        raise BrokerAway(f"Redis: not all of {sent} messages may be queued: {error}") from error
    return sent


def queued() -> dict[str, int]:
    """Messages in each lane, and `unacked`: with a worker at this moment. Raises BrokerAway."""
    try:
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            lengths = {lane: int(channel._size(lane)) for lane in LANES}
            with channel.conn_or_acquire() as client:
                return {**lengths, "unacked": int(client.hlen(channel.unacked_key))}
    except kombu_errors.OperationalError as error:
        raise BrokerAway(f"Redis: {error}") from error


def _while_away(work: Callable[[], T], deadline: float) -> T:
    """What `work` returns, tried again while MongoDB is away, until `deadline` (then StoreAway)."""
    pause_s = 0.1
    while True:
        try:
            with spent("store"):
                return work()
        except StoreAway as trouble:
            log.warning("store away", reason=str(trouble))
            if time.monotonic() + pause_s > deadline:
                raise
        limiter().rest(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def _key(genre_id: Any, window: Any, page: Any) -> PageKey:
    """The key of a message; Reject without requeueing when it is none."""
    if not _is_key((genre_id, window, page)):
        _refuse(f"not a page: {genre_id!r:.50}, {window!r:.50}, {page!r:.50}")
    return PageKey(genre_id, window, page)


def _time(milliseconds: Any) -> datetime | None:
    """The moment of a message, None for 0; Reject without requeueing when it is none."""
    if type(milliseconds) is not int or not 0 <= milliseconds < LATEST_MS:
        _refuse(f"not a moment: {milliseconds!r:.50}")
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _refuse(reason: str) -> NoReturn:
    log.error("message refused", reason=reason)
    raise Reject(reason, requeue=False)


def _is_key(words: Sequence[Any]) -> bool:
    if [type(word) for word in words] != [int, str, int]:
        return False
    try:
        PageKey.parse(PageKey(*words).id)
    except UsageError:
        return False
    return True
