"""The task that reads the change feed: one page per message; each message sends the next one."""

from datetime import UTC, date, datetime
from typing import Any

import structlog
from celery.exceptions import Reject

from producer.schedule.changes import LONGEST_GAP, Place, end_reading, read_page
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

#: An entry that was claimed at this time is due at once.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def begin_reading(name: str, since: datetime, now: datetime, outcome: str) -> None:
    """Send the message of the reading's first page, for the entry of that name with that outcome so far."""
    first = Place.first(since, now)
    # Before the message: a fast worker sets a later state.
    storage().schedule.set_state(name, outcome=outcome, reading={"at": first._asdict(), "since": now})
    _send(name, first)


def postpone(name: str, reason: Exception) -> None:
    """Make the entry due again, because it cannot be done now."""
    storage().schedule.set_state(name, outcome=f"postponed: {reason}", reading=None, claimed_at=NEVER)


def ask_changes(day: date, page: int) -> Changes:
    """A page of the day's changes; waits out 429s and outages, raises as `ask` does."""
    return ask(lambda deadline: tmdb_client().changes(day, page, deadline))


@app.task(name="reelhaul.read_changes")
def read_changes(name: str, started_ms: int, day: str, page: int) -> None:
    """Read one page of the change feed for the entry and send the next page's message; at the end, note it.

    The entry's state holds the place that the reading has reached. So of a message that is delivered twice
    only one goes on, and messages of an older reading do nothing.
    """
    try:
        place = _parse_place(name, started_ms, day, page)
        reading = storage().schedule.states().get(name, {}).get("reading") or {}
        if reading.get("after") == place._asdict():  # done, but the next message may not have been sent
            _send(name, Place(**reading["at"]))
        elif reading.get("at") == place._asdict():
            _read(name, place)
    except NotNow as error:
        log.warning("requeued", reason=str(error))
        raise Reject(str(error), requeue=True) from None


def _read(name: str, place: Place) -> None:
    try:
        page = read_page(ask_changes, storage(), place)
    except (Poison, KeyRejected) as error:
        # What was read is not noted: the entry's next run, soon, reads all of it again.
        log.error("changes not read", day=place.day, reason=str(error))
        postpone(name, error)
        return
    enqueue_movies(map(MovieKey, page.requested), "refresh")
    log.info(
        "changes read",
        day=place.day,
        page=place.page,
        listed=len(page.listed),
        requested=len(page.requested),
    )
    following = place.following(page.total_pages)
    if following is None:
        end_reading(storage(), place.started)
        storage().schedule.set_state(name, outcome=f"read to {place.started:%Y-%m-%d %H:%M}", reading=None)
    elif storage().schedule.advance_reading(name, place._asdict(), following._asdict(), fleet_now()):
        _send(name, following)


def _send(name: str, place: Place) -> None:
    publish(read_changes, [Message((name, *place), f"changes of {place.day}, page {place.page}", "refresh")])


def _parse_place(name: Any, started_ms: Any, day: Any, page: Any) -> Place:
    """The place in a message; a malformed message is rejected."""
    given = (name, started_ms, day, page)
    types = [type(value) for value in given]
    if types != [str, int, str, int] or name not in schedule_entries() or not _exists(Place(*given[1:])):
        reject(f"not a page of changes: {', '.join(f'{value!r:.50}' for value in given)}")
    return Place(*given[1:])


def _exists(place: Place) -> bool:
    """Whether a reading can come to this place."""
    try:
        earliest = Place.first(place.started - LONGEST_GAP, place.started).listed_on
        is_read = earliest <= place.listed_on <= place.started.date()
    except (ValueError, OverflowError, OSError):  # no such time or day
        return False
    return is_read and place.page > 0 and place.started <= fleet_now()
