"""What happens by itself. Beat only says "do what is due"; what is due is claimed in MongoDB.

So two beats, or a missed run, do no harm, and beat keeps no file of its own.
`celery -A producer.schedule beat` runs it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import click
import structlog
from celery.exceptions import Reject

from producer.changes import LONGEST_GAP, days_to_read, read_day
from producer.enqueue import Backfill, asked_backfills, begin, unfinished
from producer.timetable import Duty, timetable
from worker.answers import Changes
from worker.app import app
from worker.attempts import fetch, refuse
from worker.bootstrap import fleet_now, movies, store, tmdb_client
from worker.errors import Forbidden, NotEver, NotNow, UsageError
from worker.lanes import Message, publish, queued
from worker.merge import Document
from worker.movie_tasks import send_movies
from worker.pages import MovieKey
from worker.settings import settings
from worker.tasks import send

__all__ = ["app"]

log = structlog.get_logger(__name__)

#: Of the seconds between two looks at what is due: a duty is done that much early, or it would wait for the
#: look after next.
EARLY = 1 / 6
#: Beat's messages are thrown away after this long. Workers tell by their own clocks, which may be an hour
#: ahead of beat's: then none of a shorter life would ever be heeded.
LIFE_S = 7_200
#: A lane with more messages than this has not lost its own: sweeping it would only double them.
SHORT = 100
#: Wanted movies in the broker at a time: two minutes' worth of TMDB's limit.
FED = 4_000
#: A reading of changes whose last day began this long ago has died.
READING = timedelta(minutes=5)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@app.task(name="reelhaul.tick")
def tick() -> None:
    """Do what is due, each at most once in its period over the whole fleet."""
    early = timedelta(seconds=settings().reelhaul_tick_s * EARLY)
    try:
        now = fleet_now()
        for duty in timetable().values():
            if _is_running(duty, now):
                continue
            if store().claim_due(duty.name, duty.every - early, now):
                perform(duty, now)
    except NotNow as trouble:
        log.warning("not now", reason=str(trouble))
        raise Reject(str(trouble), requeue=False) from None  # the next tick is not far


@app.task(name="reelhaul.read_changes")
def read_changes(name: str, day: str, started_ms: int) -> None:
    """Read one day's changes for the duty, then send the next day's message; after today, move the cursor."""
    if [type(word) for word in (name, day, started_ms)] != [str, str, int] or name not in timetable():
        refuse(f"no reading of changes: {name!r:.50}, {day!r:.50}, {started_ms!r:.50}")
    try:
        this, started = date.fromisoformat(day), datetime.fromtimestamp(started_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        refuse(f"no reading of changes: {day!r:.50}, {started_ms!r:.50}")
    try:
        store().note(name, beat_at=fleet_now())
        reading = read_day(ask_changes, movies(), this, started)
        send_movies(map(MovieKey, reading.wanted), "refresh")
        wanted, gone = len(reading.wanted), reading.gone
        log.info("changes read", day=day, listed=reading.listed, wanted=wanted, gone=gone)
        if this < started.date():
            _send_reading(name, this + timedelta(days=1), started_ms)
        else:
            movies().set_read_to(started)
            store().note(name, outcome=f"read to {started:%Y-%m-%d %H:%M}", beat_at=None)
    except NotNow as trouble:
        log.warning("not now", reason=str(trouble))
        raise Reject(str(trouble), requeue=True) from None
    except (NotEver, Forbidden) as trouble:
        # The cursor has not moved: the next run reads all of it.
        log.error("changes not read", day=day, reason=str(trouble))
        store().note(name, outcome=f"failed: {trouble}", beat_at=None)


def ask_changes(day: date, page: int) -> Changes:
    """A page of the day's changes, waiting out what is only for now."""
    return fetch(partial(tmdb_client().changes, day, page))


def perform(duty: Duty, now: datetime) -> str:
    """Do the duty, which the caller has claimed; returns how it went, and keeps it in MongoDB.

    When it cannot be done now it becomes due again, and NotNow is raised.
    """
    store().note(duty.name, outcome="begun", backfills=[])
    try:
        outcome = _PERFORM[duty.do](duty, now)
    except NotNow as trouble:
        store().note(duty.name, outcome=f"put off: {trouble}", claimed_at=_NEVER)
        raise
    store().note(duty.name, outcome=outcome)
    log.info("duty done", duty=duty.name, outcome=outcome)
    return outcome


def running(note: Document | None, unfinished_ids: set[str], now: datetime) -> bool:
    """Whether the last run of a duty, of which `note` is kept, has not ended."""
    if not note:
        return False
    beat_at = note.get("beat_at")
    return bool(unfinished_ids & set(note.get("backfills", ()))) or bool(beat_at and beat_at > now - READING)


def sweep() -> int:
    """Enqueue what unfinished backfills lack and movies that are wanted, unless messages wait; how many."""
    if sum(queued().values()) > SHORT:
        return 0
    sent = send_movies(movies().some_wanted(FED))
    for backfill, missing in unfinished(store(), fleet_now()):
        sent += send(missing, backfill.fresh_after_ms)
    if sent:
        log.info("swept", sent=sent)
    return sent


def full_sweep(now: datetime) -> int:
    """Fetch again all that was asked for and is older than changes can tell; returns the messages sent."""
    return sum(
        begin(store(), replace(asked, max_age=LONGEST_GAP, requested_at=now, duty="sweep"), "refresh")
        for asked in asked_backfills(store())
    )


def changes_since() -> datetime | None:
    """From when on changes are unknown: the last reading, else the oldest page; None: nothing is stored."""
    return movies().read_to() or store().oldest()


def _is_running(duty: Duty, now: datetime) -> bool:
    note = store().notes().get(duty.name)
    ids = {document["_id"] for document in store().remembered(unfinished=True)}
    return running(note, ids, now)


def _sweep(_: Duty, __: datetime) -> str:
    return f"{sweep():,} sent"


def _changes(duty: Duty, now: datetime) -> str:
    since = changes_since()
    if since is None:
        return "nothing is stored yet"
    said = f"reading from {since:%Y-%m-%d %H:%M}"
    if now - since > LONGEST_GAP:
        log.warning("gap", since=since.isoformat(), longest_days=LONGEST_GAP.days)
        said = f"a gap of {(now - since).days} days: full sweep, {full_sweep(now):,} sent"
    store().note(duty.name, beat_at=now)
    _send_reading(duty.name, days_to_read(since, now)[0], int(now.timestamp() * 1000))
    return said


def _send_reading(name: str, day: date, started_ms: int) -> None:
    message = Message((name, day.isoformat(), started_ms), f"changes of {day}", "refresh")
    publish(read_changes, [message])


def _refresh(duty: Duty, now: datetime) -> str:
    """This year and last year, or the duty's years, in the genres that people asked for."""
    genres = {id_: name for asked in asked_backfills(store()) for id_, name in asked.genres.items()}
    if not genres:
        return "nothing was asked for yet"
    years = duty.years or (now.year - 1, now.year)
    wanted = Backfill(genres, years, duty.max_age, now, duty.name)
    sent = begin(store(), wanted, "refresh")
    store().note(duty.name, backfills=[wanted.id])
    return f"{sent:,} sent, backfill {wanted.id}"


def _oldest(duty: Duty, now: datetime) -> str:
    """What would pass the retention before the run after next.

    Movies that stand on no page any more are asked for one by one, before they would pass it.
    """
    retention = settings().reelhaul_retention
    limit = now - max(retention - 2 * duty.every, retention / 2)
    ages = store().older(limit)
    for cell in list(ages):  # a half's age is its year's
        year = cell._replace(window=cell.window[:4])
        ages[year] = min(ages.get(year, ages[cell]), ages[cell])
    sent, ids = 0, []
    for asked in asked_backfills(store()):
        wanted = replace(asked, max_age=now - limit, requested_at=now, duty=duty.name)
        if ages.keys() & set(wanted.cells()):
            sent += begin(store(), wanted, "refresh", ages)
            ids.append(wanted.id)
    store().note(duty.name, backfills=ids)
    single = movies().aging(now - max(retention - duty.every, retention / 2), FED)
    movies().want(single, now)
    sent += send_movies(map(MovieKey, single), "refresh")
    return f"{sent:,} sent"


_PERFORM = {"sweep": _sweep, "changes": _changes, "refresh": _refresh, "oldest": _oldest}


def _beat() -> dict[str, Any]:
    """Beat's one entry; click.UsageError, which Celery shows as one line, for a schedule that is none."""
    try:
        timetable()
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    every = settings().reelhaul_tick_s
    entry = {"task": tick.name, "schedule": every, "options": {"expires": LIFE_S}}
    return {"beat_schedule": {"tick": entry}, "beat_scheduler": "celery.beat:Scheduler"}


app.add_defaults(_beat)
