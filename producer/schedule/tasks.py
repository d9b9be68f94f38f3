"""Beat's one task: do what is due.

What is due is claimed in MongoDB. So a second beat or a missed run does no harm, and beat keeps no file.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import click
import structlog
from celery.exceptions import Reject

from producer.enqueue import incomplete
from producer.notifications import notify_in_background
from producer.schedule.config import schedule_entries
from producer.schedule.entries import BEGUN, NEVER, perform
from worker.app import app
from worker.clients import fleet_now, storage
from worker.errors import NotNow, UsageError
from worker.settings import settings
from worker.storage.mongo import AHEAD, Document

__all__ = ["app"]

log = structlog.get_logger(__name__)

#: Share of the time between two ticks by which an entry may run early; without it, an entry that is due just
#: after a tick would wait for the tick after next.
EARLY = 1 / 6
#: An entry that was begun so long ago and has no outcome died with its worker. Loading ids takes minutes.
DIED = timedelta(minutes=15)
#: Seconds until beat's messages expire. Workers check that by their own clocks, which may be an hour ahead of
#: beat's: they would drop every message with a shorter life.
EXPIRES_S = 7_200


@app.task(name="reelhaul.tick")
def tick() -> None:
    """Do what is due, each entry at most once per period in the whole fleet."""
    early = timedelta(seconds=settings().reelhaul_tick_s * EARLY)
    try:
        now = fleet_now()
        for entry in schedule_entries().values():
            state = storage().schedule.states().get(entry.name, {})
            has_died = state.get("outcome") == BEGUN  # unless it ends within DIED
            period = min(entry.every, DIED) if has_died else entry.every - early
            if _is_due(state, period, now) and storage().schedule.claim(entry.name, period, now):
                with suppress(UsageError):  # it is in the entry's outcome
                    perform(entry, now)
    except NotNow as error:
        log.warning("tick dropped", reason=str(error))
        raise Reject(str(error), requeue=False) from None  # the next tick comes soon
    finally:
        notify_in_background()


def begun_within(state: Document, period: timedelta, now: datetime) -> bool:
    """Whether an entry with that state was begun within the period; a time far in the future is ignored."""
    claimed_at: datetime = state.get("claimed_at", NEVER)
    return now - period < claimed_at <= now + AHEAD


def _is_due(state: Document, period: timedelta, now: datetime) -> bool:
    """Whether the entry with that state was not begun within the period, and its last run has ended."""
    if begun_within(state, period, now):
        return False  # without the next question, which reads all pages
    return not incomplete(storage(), state.get("requests", ()))


def _beat() -> dict[str, Any]:
    """Beat's settings; click.UsageError, which Celery shows as one line, when the schedule is invalid."""
    try:
        schedule_entries()
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    every_s = settings().reelhaul_tick_s
    entry = {"task": tick.name, "schedule": every_s, "options": {"expires": EXPIRES_S}}
    return {"beat_schedule": {"tick": entry}, "beat_scheduler": "celery.beat:Scheduler"}


app.add_defaults(_beat)
