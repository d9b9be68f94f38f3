"""What the fleet runs: fetch a page, store it, send what its cell still lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from celery.exceptions import Reject
from kombu import exceptions as kombu_errors

from worker.app import LANES, app
from worker.bootstrap import fleet_now, limiter, store, tmdb_client
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
    UsageError,
)
from worker.pages import PageKey
from worker.store import Mark

if TYPE_CHECKING:
    from celery import Task

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
#: Messages in one round trip to the broker.
SENT_AT_ONCE = 500


@app.task(name="reelhaul.fetch_page", bind=True)
def fetch_page(self: Task[Any, Any], genre_id: int, window: str, page: int, fresh_after_ms: int = 0) -> None:
    """Have the page stored, fetched at or after `fresh_after_ms` (milliseconds since 1970; 0: ever).

    After page 1, what the cell still lacks is sent to the lane of its kind.
    """
    key = _key(genre_id, window, page)
    fresh_after = _time(fresh_after_ms)
    with structlog.contextvars.bound_contextvars(page=key.id, task=self.request.id):
        try:
            obtain(key, fresh_after)
            if key.page == 1:
                lane = str((self.request.delivery_info or {}).get("routing_key"))
                send(store().missing([key.cell], fresh_after), fresh_after_ms, lane)
        except NotEver as trouble:
            give_up(key, trouble)
        except (NotNow, Forbidden) as trouble:
            log.debug("back to the queue", reason=str(trouble))
            raise Reject(str(trouble), requeue=True) from None


def give_up(key: PageKey, trouble: NotEver) -> None:
    """Into quarantine with it."""
    log.warning("quarantined", reason=str(trouble))
    _while_away(lambda: store().quarantine(key, trouble, fleet_now()), time.monotonic() + SLOT_S)


def obtain(key: PageKey, fresh_after: datetime | None) -> Mark:
    """The page's mark, after fetching and storing the page if need be.

    Waits out what is only for now: raises NotNow when that takes too long for a slot, NotEver for what
    belongs into quarantine, Forbidden when the key does not work.
    """
    begun, tries = time.monotonic(), 0
    deadline = begun + SLOT_S
    while True:
        mark = _while_away(lambda: store().fresh(key, fresh_after), deadline)
        if mark:
            return mark
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
            return Mark(page.total_pages, page.fetched_at)


def send(keys: Iterable[PageKey], fresh_after_ms: int, lane: str = LANES[-1]) -> int:
    """Enqueue the keys, and say how many: first pages into `lane`, the others into `pages`.

    What begins in `refresh` stays there. Raises BrokerAway when some may not have been sent.
    """
    sent = 0
    try:
        with app.producer_or_acquire() as producer, producer.batch(max_size=SENT_AT_ONCE):
            for key in keys:
                queue = lane if lane == "refresh" else "cells" if key.page == 1 else "pages"
                fetch_page.apply_async(  # type: ignore[call-arg] # the stubs lack argsrepr
                    args=(*key, fresh_after_ms),
                    queue=queue,
                    producer=producer,
                    argsrepr=key.id,
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
            return work()
        except StoreAway as trouble:
            log.warning("store away", reason=str(trouble))
            if time.monotonic() + pause_s > deadline:
                raise
        limiter().rest(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def _key(genre_id: Any, window: Any, page: Any) -> PageKey:
    """The key of a message; Reject without requeueing when it is none."""
    try:
        return PageKey.parse(f"{genre_id}:{window}:{page}")
    except UsageError as error:
        log.error("message refused", reason=str(error)[:200])
        raise Reject(str(error)[:200], requeue=False) from None


def _time(milliseconds: int) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
