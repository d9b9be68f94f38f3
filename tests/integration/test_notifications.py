"""What the webhook is told: the documents, once each, until the receiver took them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from producer.enqueue import find_missing, save_request
from producer.notifications import notify_in_background, tell
from producer.requests.backfills import Backfill
from producer.requests.movies import Details
from producer.requests.popular import Popular
from producer.requests.request import Request
from producer.webhook import Webhook
from tests.support.pages import page_of, put
from tests.support.receiver import SECRETS, Receiver, receiver
from tests.support.stage import wait_for
from worker.errors import Rejected, WebhookFailed
from worker.keys import Fetch, MovieKey, PageKey, PopularKey
from worker.limiter.rate import Rate
from worker.limiter.state import LimiterState
from worker.settings import Settings
from worker.storage.database import Storage
from worker.storage.notifications import TURN

pytestmark = pytest.mark.timeout(60)

NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)
OPEN = LimiterState(Rate(40, 1), 1.0, 3, 0, "", False, None, 100, 2, {})
STOPPED = replace(OPEN, closed_reason="HTTP 401: Invalid API key", stopped=True)
PAGE, POPULAR, MOVIE = PageKey(18, "1999", 1), PopularKey(1), MovieKey(603)


@pytest.fixture
def receives() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def storage(storage: Storage) -> Storage:
    storage.mongo.now = lambda: NOW
    return storage


def told(receives: Receiver, storage: Storage, state: LimiterState = OPEN, at: datetime = NOW) -> list[Any]:
    """What a tick at that time sends."""
    before = len(receives.taken)
    tell(Webhook(receives.url), storage, state, at)
    return receives.taken[before:]


def quarantine(storage: Storage, key: PageKey | PopularKey | MovieKey, at: datetime = NOW) -> None:
    storage.failures.add(Fetch(key), Rejected("HTTP 404: gone"), at)


def fail_entry(storage: Storage, begun: datetime = NOW) -> None:
    storage.schedule.set_state("ids", claimed_at=begun, outcome="failed: no list at the address")


def finish(storage: Storage, request: Request, at: datetime = NOW) -> None:
    """Request it, and let a sweep find that nothing of it is missing."""
    save_request(storage, request)
    assert [list(missing) for missing in find_missing(storage, at)] == []


class TestDocuments:
    """Each document, whole: what docs/notifications.md shows."""

    @pytest.fixture
    def head(self, storage: Storage) -> dict[str, str]:
        return {"at": NOW.isoformat(), "database": storage.mongo.database.name}

    def test_request_ended(self, receives: Receiver, storage: Storage, head: dict[str, str]) -> None:
        put(storage, PAGE, at=NOW)
        backfill = Backfill({18: "Drama"}, (1999,), None, NOW - MINUTE)
        finish(storage, backfill)
        begun = (NOW - MINUTE).isoformat()
        assert told(receives, storage) == [
            head
            | {
                "event": "request-ended",
                "id": f"request-ended:{backfill.id}:{begun}",
                "text": f"{head['database']}: {backfill.title}: ended, 1 pages and 0 single movies stored, "
                "0 in quarantine",
                "kind": "backfill",
                "request": backfill.id,
                "requested_at": begun,
                "ended_at": NOW.isoformat(),
                "pages_stored": 1,
                "movies_stored": 0,
                "quarantined": 0,
            }
        ]

    def test_limiter_stopped(self, receives: Receiver, storage: Storage, head: dict[str, str]) -> None:
        reason, database = STOPPED.closed_reason, head["database"]
        assert told(receives, storage, STOPPED) == [
            head
            | {
                "event": "limiter-stopped",
                "id": "limiter-stopped",
                "text": f"{database}: the limiter is shut: {reason}; nothing is fetched until a key works",
                "reason": reason,
            }
        ]

    def test_schedule_entry_failed(self, receives: Receiver, storage: Storage, head: dict[str, str]) -> None:
        fail_entry(storage)
        assert told(receives, storage) == [
            head
            | {
                "event": "schedule-entry-failed",
                "id": f"schedule-entry-failed:ids:{NOW.isoformat()}",
                "text": f"{head['database']}: schedule entry ids failed: no list at the address",
                "schedule_entry": "ids",
                "outcome": "failed: no list at the address",
            }
        ]

    def test_quarantine_grew(self, receives: Receiver, storage: Storage, head: dict[str, str]) -> None:
        quarantine(storage, PAGE, NOW - MINUTE)
        quarantine(storage, MOVIE)
        assert told(receives, storage) == [
            head
            | {
                "event": "quarantine-grew",
                "id": f"quarantine-grew:{NOW.isoformat()}",
                "text": f"{head['database']}: 2 more in quarantine, 2 in all; `reelhaul failures` shows them",
                "added": 2,
                "total": 2,
                "keys": [PAGE.id, MOVIE.id],
            }
        ]


class TestOnce:
    def test_the_same_is_not_told_at_the_next_tick(self, receives: Receiver, storage: Storage) -> None:
        put(storage, PAGE, at=NOW)
        finish(storage, Backfill({18: "Drama"}, (1999,), None, NOW - MINUTE))
        fail_entry(storage)
        quarantine(storage, POPULAR)
        assert len(told(receives, storage, STOPPED)) == 4
        # An hour later the sweep computes again what is missing, and finds the same.
        later = NOW + timedelta(hours=2)
        storage.mongo.now = lambda: later
        assert list(find_missing(storage, later)) == []
        assert told(receives, storage, STOPPED, later) == []

    def test_it_is_told_by_one_process(self, receives: Receiver, storage: Storage) -> None:
        quarantine(storage, PAGE)
        receives.answers.clear()
        with ThreadPoolExecutor(4) as processes:
            begun = [processes.submit(tell, Webhook(receives.url), storage, OPEN, NOW) for _ in range(4)]
            ended = [one.result() for one in islice(as_completed(begun, timeout=30), 3)]
            receives.answers.set()
        assert len(ended) == 3
        assert receives.arrived == 1

    def test_the_turn_of_a_process_that_died_ends(self, receives: Receiver, storage: Storage) -> None:
        quarantine(storage, PAGE)
        assert storage.notifications.begin(NOW)
        assert told(receives, storage) == []
        assert len(told(receives, storage, at=NOW + TURN)) == 1

    def test_what_happens_again_is_told_again(self, receives: Receiver, storage: Storage) -> None:
        assert len(told(receives, storage, STOPPED)) == 1
        assert told(receives, storage, OPEN) == []
        assert len(told(receives, storage, STOPPED)) == 1
        for minutes in (0, 60):
            fail_entry(storage, NOW + minutes * MINUTE)
            assert len(told(receives, storage, STOPPED)) == 1

    def test_a_request_that_is_repeated_ends_again(self, receives: Receiver, storage: Storage) -> None:
        put(storage, PAGE, at=NOW)
        for minutes in (10, 5):
            finish(storage, Backfill({18: "Drama"}, (1999,), None, NOW - minutes * MINUTE))
            assert len(told(receives, storage)) == 1

    def test_a_growing_quarantine_is_told_every_ten_minutes(
        self, receives: Receiver, storage: Storage
    ) -> None:
        quarantine(storage, PAGE)
        assert len(told(receives, storage)) == 1
        quarantine(storage, POPULAR, NOW + MINUTE)
        assert told(receives, storage, at=NOW + MINUTE) == []
        [grown] = told(receives, storage, at=NOW + 11 * MINUTE)
        assert (grown["added"], grown["total"], grown["keys"]) == (1, 2, [POPULAR.id])

    def test_what_a_schedule_entry_asks_for_every_hour_is_not_told(
        self, receives: Receiver, storage: Storage
    ) -> None:
        put(storage, PAGE, at=NOW)
        finish(storage, Backfill({18: "Drama"}, (1999,), None, NOW - MINUTE, "recent"))
        assert told(receives, storage) == []

    def test_other_requests_end_too(self, receives: Receiver, storage: Storage) -> None:
        storage.pages.save(POPULAR, page_of(at=NOW))
        finish(storage, Popular(1, timedelta(), NOW - MINUTE))
        finish(storage, Details((), None, listed=True, requested_at=NOW - MINUTE))
        assert [one["kind"] for one in told(receives, storage)] == ["popular", "details"]


class TestReceiver:
    @pytest.mark.parametrize("status", [302, 404, 500])
    def test_what_was_not_taken_is_sent_at_the_next_tick(
        self, receives: Receiver, storage: Storage, status: int
    ) -> None:
        quarantine(storage, PAGE)
        receives.status = status
        with pytest.raises(WebhookFailed, match=f"^HTTP {status}$"):
            told(receives, storage)
        receives.status = 200
        assert len(told(receives, storage)) == 1

    def test_after_a_day_it_is_no_news(self, receives: Receiver, storage: Storage) -> None:
        put(storage, PAGE, at=NOW)
        finish(storage, Backfill({18: "Drama"}, (1999,), None, NOW - MINUTE))
        fail_entry(storage)
        quarantine(storage, POPULAR)
        late = NOW + timedelta(days=1, seconds=1)
        storage.mongo.now = lambda: late
        assert told(receives, storage, at=late) == []

    def test_a_receiver_that_hangs_holds_up_nothing(
        self, receives: Receiver, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A tick returns while the receiver has not answered; the next one does not wait for it either."""
        quarantine(storage, PAGE)
        receives.answers.clear()
        monkeypatch.setenv("REELHAUL_WEBHOOK", receives.url)
        monkeypatch.setattr("producer.notifications.settings", Settings)
        monkeypatch.setattr("producer.notifications.storage", lambda: storage)
        monkeypatch.setattr("producer.notifications.limiter", lambda: SimpleNamespace(state=lambda: OPEN))
        monkeypatch.setattr("producer.notifications.fleet_now", lambda: NOW)
        notify_in_background()
        wait_for(lambda: receives.arrived == 1)
        [sending] = [thread for thread in threading.enumerate() if thread.name == "webhook"]
        notify_in_background()
        assert sending.is_alive()
        assert sending.daemon, "the process must be able to end"
        receives.answers.set()
        wait_for(lambda: receives.events() == ["quarantine-grew"])
        sending.join(30)
        assert receives.arrived == 1

    def test_no_error_shows_the_address(self, storage: Storage) -> None:
        quarantine(storage, PAGE)
        webhook = Webhook(f"http://127.0.0.1:1/services/{SECRETS[0]}?token={SECRETS[1]}")
        with pytest.raises(WebhookFailed) as raised:
            tell(webhook, storage, OPEN, NOW)
        assert str(raised.value) == "ConnectionError"
        assert raised.value.__suppress_context__
        assert webhook.host == "http://127.0.0.1:1"
