"""What happens by itself. Beat only says "do what is due"; what is due is claimed in MongoDB.

So two beats, or a missed run, do no harm, and beat keeps no file of its own.
`celery -A producer.schedule beat` runs it.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from celery.exceptions import Reject

from producer.enqueue import Backfill, begin, unfinished
from worker.app import app
from worker.bootstrap import fleet_now, store
from worker.errors import NotNow
from worker.settings import settings
from worker.tasks import queued, send

__all__ = ["app"]

log = structlog.get_logger(__name__)

#: Of the seconds between two looks at what is due: a look asked for before that is one too many.
EARLY = 5 / 6
#: Beat's messages are thrown away after this long. Workers tell by their own clocks, which may be an hour
#: ahead of beat's: then none of a shorter life would ever be heeded.
LIFE_S = 7_200
#: This year's and last year's pages are fetched again when they are older.
RECENT_AGE = timedelta(days=1)
#: A lane with more messages than this has not lost its own: sweeping it would only double them.
SHORT = 100


@app.task(name="reelhaul.tick")
def tick() -> None:
    """Do what is due, each at most once in its period over the whole fleet."""
    try:
        now = fleet_now()
        if store().claim_due("sweep", timedelta(seconds=settings().reelhaul_tick_s * EARLY), now):
            sweep()
        if store().claim_due("refresh", RECENT_AGE, now):
            refresh_recent()
    except NotNow as trouble:
        log.warning("not now", reason=str(trouble))
        raise Reject(str(trouble), requeue=False) from None  # the next tick is not far


def sweep() -> int:
    """Enqueue what unfinished backfills lack, unless it is queued still; returns the messages sent."""
    if sum(queued().values()) > SHORT:
        return 0
    sent = 0
    for backfill, missing in unfinished(store(), fleet_now()):
        sent += send(missing, backfill.fresh_after_ms)
    if sent:
        log.info("swept", sent=sent)
    return sent


def refresh_recent() -> int:
    """Fetch this year and last year again where older than a day; returns the messages sent."""
    names, now = store().named_genres(), fleet_now()
    if not names:
        return 0  # nothing was ever asked for
    recent = Backfill(names, (now.year - 1, now.year), RECENT_AGE, now)
    sent = begin(store(), recent, lane="refresh")
    log.info("refreshing", backfill=recent.id, sent=sent)
    return sent


app.add_defaults(
    lambda: {
        "beat_schedule": {
            "tick": {
                "task": tick.name,
                "schedule": settings().reelhaul_tick_s,
                "options": {"expires": LIFE_S},
            },
        },
        "beat_scheduler": "celery.beat:Scheduler",
    }
)
