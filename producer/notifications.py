"""What REELHAUL_WEBHOOK is told, and when: computed from what is stored, in the background of a tick.

A process of the fleet takes its turn, sends what is news, and notes each notification that the receiver took.
What it did not take is sent at the next ticks, for a day.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from producer.enqueue import request_of
from producer.progress import measure
from producer.webhook import WHOLE_S, Webhook
from worker.clients import fleet_now, limiter, storage
from worker.errors import NotNow
from worker.limiter.state import LimiterState
from worker.settings import redacted, settings
from worker.storage.database import Storage
from worker.storage.notifications import TURN

log = structlog.get_logger(__name__)

#: What happened longer ago is no news.
NEWS = timedelta(days=1)
#: Between two notifications about the quarantine, at least.
QUARANTINE_EVERY = timedelta(minutes=10)
#: Ids of quarantined pages in one notification.
SHOWN_KEYS = 10

_sending = threading.Lock()


@dataclass(frozen=True)
class Notification:
    """One thing to tell; docs/notifications.md has the documents."""

    event: str
    #: Which one; with the event, it makes the notification's id.
    subject: str
    #: One line for a person.
    text: str
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        return f"{self.event}:{self.subject}" if self.subject else self.event

    def document(self, database: str, at: datetime) -> dict[str, Any]:
        """What is sent, as JSON values, without secrets."""
        text = redacted(f"{database}: {self.text}")
        head = {"event": self.event, "id": self.id, "at": at.isoformat(), "database": database, "text": text}
        return head | {
            name: redacted(one) if isinstance(one, str) else one for name, one in self.facts.items()
        }


def notify_in_background() -> None:
    """Tell the webhook what is news, in a thread of its own; without webhook nothing."""
    webhook = settings().reelhaul_webhook
    if webhook:
        address = webhook.get_secret_value()
        threading.Thread(target=_notify, args=(Webhook(address),), name="webhook", daemon=True).start()


def _notify(webhook: Webhook) -> None:
    if not _sending.acquire(blocking=False):
        return  # the thread of an earlier tick is still at it
    try:
        tell(webhook, storage(), limiter().state(), fleet_now())
    except NotNow as error:  # the next tick tries again
        log.warning("webhook not told", host=webhook.host, reason=str(error))
    finally:
        _sending.release()


def tell(webhook: Webhook, storage: Storage, state: LimiterState, now: datetime) -> None:
    """Send what is news, unless another process is at it. Raises WebhookFailed, MongoUnavailable."""
    if not storage.notifications.begin(now):
        return
    # No notification is begun so late that another process might send it too.
    until = time.monotonic() + TURN.total_seconds() - 2 * WHOLE_S
    try:
        for notification in news(storage, state, now):
            webhook.post(notification.document(storage.mongo.database.name, now))
            storage.notifications.note_told(notification.id, now)
            log.info("webhook told", notification=notification.id)
            if time.monotonic() > until:
                break
        storage.notifications.forget_before(now - 2 * NEWS)
    finally:
        storage.notifications.end()


def news(storage: Storage, state: LimiterState, now: datetime) -> Iterator[Notification]:
    """What was not told yet. Raises MongoUnavailable."""
    told = storage.notifications.told()
    yield from _limiter_stopped(storage, state, told)
    yield from (one for one in _failed_entries(storage, now) if one.id not in told)
    yield from _quarantine_grew(storage, now, told)
    yield from _ended_requests(storage, now, told)


def _limiter_stopped(
    storage: Storage, state: LimiterState, told: dict[str, datetime]
) -> Iterator[Notification]:
    stopped = Notification(
        "limiter-stopped",
        "",
        f"the limiter is shut: {state.closed_reason}; nothing is fetched until a key works",
        {"reason": state.closed_reason},
    )
    if not state.stopped:
        if stopped.id in told:
            storage.notifications.forget(stopped.id)  # the next time is news again
    elif stopped.id not in told:
        yield stopped


def _failed_entries(storage: Storage, now: datetime) -> Iterator[Notification]:
    for name, entry in storage.schedule.states().items():
        outcome, begun = str(entry.get("outcome", "")), entry.get("claimed_at")
        if outcome.startswith("failed:") and begun and begun > now - NEWS:
            yield Notification(
                "schedule-entry-failed",
                f"{name}:{begun.isoformat()}",
                f"schedule entry {name} {outcome}",
                {"schedule_entry": name, "outcome": outcome},
            )


def _quarantine_grew(storage: Storage, now: datetime, told: dict[str, datetime]) -> Iterator[Notification]:
    event = "quarantine-grew"
    earlier = {id_.partition(":")[2]: at for id_, at in told.items() if id_.startswith(f"{event}:")}
    if any(at > now - QUARANTINE_EVERY for at in earlier.values()):
        return
    added = storage.failures.failed_after(max([now - NEWS, *map(datetime.fromisoformat, earlier)]))
    if not added:
        return
    *_, latest = added.values()
    total = len(storage.failures.quarantined())
    yield Notification(
        event,
        latest.isoformat(),
        f"{len(added):,} more in quarantine, {total:,} in all; `reelhaul failures` shows them",
        {"added": len(added), "total": total, "keys": [*added][:SHOWN_KEYS]},
    )


def _ended_requests(storage: Storage, now: datetime, told: dict[str, datetime]) -> Iterator[Notification]:
    for document in storage.requests.ended(now - NEWS):
        event, request = "request-ended", request_of(document)
        subject = f"{document['_id']}:{document['requested_at'].isoformat()}"
        if request is None or f"{event}:{subject}" in told:
            continue
        progress = measure(storage, request)
        pages, movies, quarantined = progress.pages.stored, progress.movies.stored, progress.quarantined
        yield Notification(
            event,
            subject,
            f"{request.title}: ended, {pages:,} pages and {movies:,} single movies stored, "
            f"{quarantined:,} in quarantine",
            {
                "kind": request.kind,
                "request": request.id,
                "requested_at": request.requested_at.isoformat(),
                "ended_at": document["ended_at"].isoformat(),
                "pages_stored": pages,
                "movies_stored": movies,
                "quarantined": quarantined,
            },
        )
