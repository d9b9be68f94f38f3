"""A reading of what changed, as the fleet does it: a page a message, from day to day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import structlog
from celery.exceptions import Reject

from producer.schedule.changes import LONGEST_GAP, days_to_read, end_reading, read_page
from producer.schedule.config import schedule_entries
from worker.app import app
from worker.clients import fleet_now, storage, tmdb_client
from worker.errors import KeyRejected, NotNow, Poison
from worker.keys import MovieKey
from worker.movie_tasks import enqueue_movies
from worker.queues import Message, publish
from worker.records import Changes
from worker.retry import ask, reject

log = structlog.get_logger(__name__)

#: What was claimed then is due again.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """A page of a reading of changes, in scalars."""

    started_ms: int
    day: str
    page: int

    def following(self, total_pages: int, last: date) -> Place | None:
        """The next page, of the same day or of the next; None after `last`'s."""
        this = date.fromisoformat(self.day)
        if self.page < total_pages:
            return self._replace(page=self.page + 1)
        return self._replace(day=(this + timedelta(days=1)).isoformat(), page=1) if this < last else None


def begin_reading(name: str, since: datetime, now: datetime, said: str) -> None:
    """Send the first page's message, for the duty of that name; `said` becomes its outcome so far."""
    first = Place(int(now.timestamp() * 1000), days_to_read(since, now)[0].isoformat(), 1)
    # Before a quick worker tells more.
    storage().schedule.set_state(name, outcome=said, reading={"at": first._asdict(), "since": now})
    _send(name, first)


@app.task(name="reelhaul.read_changes")
def read_changes(name: str, started_ms: int, day: str, page: int) -> None:
    """Read one page of changes for the duty, then send the next one's message; after today, move the cursor.

    The duty's note says which page the reading is at. So of messages that come twice one goes on, and the
    messages of an older reading do nothing.
    """
    here, started = _place(name, started_ms, day, page)
    try:
        note = storage().schedule.states().get(name, {}).get("reading") or {}
        if note.get("after") == here._asdict():  # this message sent the next one, or died before it did
            _send(name, Place(**note["at"]))
        elif note.get("at") == here._asdict():
            _read(name, here, started)
    except NotNow as trouble:
        log.warning("not now", reason=str(trouble))
        raise Reject(str(trouble), requeue=True) from None


def _place(name: Any, started_ms: Any, day: Any, page: Any) -> tuple[Place, datetime]:
    """The place that a message names, and when its reading began; Reject when there is none."""
    given = (name, started_ms, day, page)
    try:
        started = datetime.fromtimestamp(started_ms / 1000, UTC)
        far_back = days_to_read(started - LONGEST_GAP, started)
        makes_sense = (
            [type(word) for word in given] == [str, int, str, int]
            and name in schedule_entries()
            and started <= fleet_now()
            and date.fromisoformat(day) in far_back
            and page > 0
        )
    except (TypeError, ValueError, OverflowError, OSError):
        makes_sense = False
    if not makes_sense:
        reject(f"no page of changes: {', '.join(f'{word!r:.50}' for word in given)}")
    return Place(started_ms, day, page), started


def _read(name: str, here: Place, started: datetime) -> None:
    this = date.fromisoformat(here.day)
    try:
        reading, total = read_page(ask_changes, storage(), this, here.page, started)
    except (Poison, KeyRejected) as trouble:
        # The cursor has not moved: the next run, soon, reads all of it.
        log.error("changes not read", day=here.day, reason=str(trouble))
        storage().schedule.set_state(name, outcome=f"put off: {trouble}", reading=None, claimed_at=NEVER)
        return
    enqueue_movies(map(MovieKey, reading.wanted), "refresh")
    listed, wanted = len(reading.listed), len(reading.wanted)
    log.info("changes read", day=here.day, page=here.page, listed=listed, wanted=wanted)
    following = here.following(total, started.date())
    if following is None:
        end_reading(storage(), started)
        storage().schedule.set_state(name, outcome=f"read to {started:%Y-%m-%d %H:%M}", reading=None)
    elif storage().schedule.advance_reading(name, here._asdict(), following._asdict(), fleet_now()):
        _send(name, following)


def ask_changes(day: date, page: int) -> Changes:
    """A page of the day's changes, waiting out what is only for now."""
    return ask(partial(tmdb_client().changes, day, page))


def _send(name: str, at: Place) -> None:
    message = Message((name, *at), f"changes of {at.day}, page {at.page}", "refresh")
    publish(read_changes, [message])
