"""A task ends in time, whatever the API, MongoDB and the page do; well before its message comes again."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import redis
from celery.exceptions import Reject

from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from worker import retry as attempts
from worker import tasks
from worker.app import VISIBILITY_S
from worker.errors import MongoUnavailable, NotEver
from worker.keys import MovieKey, PageKey
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate
from worker.records import Page
from worker.retry import LAST_STORAGE_ATTEMPT_S, QUARANTINE_S, TASK_S, WAIT_S, message_outcome, retry_storage
from worker.settings import Settings
from worker.storage.merge import Saved
from worker.tmdb import flakiness as blame
from worker.tmdb.client import WHOLE_S, TmdbClient
from worker.tmdb.session import build_session

KEY = PageKey(18, "2020", 2)
#: Every bound is so much of what it is; and how late this machine may be.
SHORT, LATE_S = 0.05, 3.0


def test_a_message_is_redelivered_only_well_after_its_task_has_ended() -> None:
    """What comes after the last request begins, one after the other, each by its own bound."""
    last_request = WAIT_S + WHOLE_S
    last_comparison = TASK_S
    assert last_request < last_comparison
    stored = TASK_S + LAST_STORAGE_ATTEMPT_S
    quarantined = stored + QUARANTINE_S + LAST_STORAGE_ATTEMPT_S
    # Of page 1, what the cell lacks is sent: asked of MongoDB within LAST_STORAGE_ATTEMPT_S, sent within QUARANTINE_S.
    sent = stored + LAST_STORAGE_ATTEMPT_S + QUARANTINE_S
    assert max(quarantined, sent) <= VISIBILITY_S - 20


def test_the_read_timeout_is_at_most_a_whole_request() -> None:
    bounds = [part for part in Settings.model_fields["reelhaul_timeout_s"].metadata if hasattr(part, "le")]
    assert [bound.le for bound in bounds] == [WHOLE_S]


@pytest.fixture(scope="module")
def mongo() -> Iterator[EmbeddedMongo]:
    """One of these tests' own, to be stopped."""
    with EmbeddedMongo() as server:
        yield server


@pytest.fixture
def fleet(
    monkeypatch: pytest.MonkeyPatch, redis_server: EmbeddedRedis, emulator: Callable[..., EmulatorProcess]
) -> Iterator[EmulatorProcess]:
    """This process as a worker, at a gate that is never closed, every bound a twentieth."""
    server = emulator("--movies", "400")
    connection = redis.Redis.from_url(redis_server.url)
    gate = Limiter(connection, Rate(5000, 1), 500, key=f"gate-{uuid4().hex}")
    monkeypatch.setattr(gate, "trouble", lambda _: None)
    session = build_session("a-token-of-nobody", 4, server.base_url)
    client = TmdbClient(session, server.base_url, gate, 1.0, {})
    for module in (attempts, blame, tasks):
        for name, value in (("limiter", lambda: gate), ("tmdb_client", lambda: client)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    for name in ("FIRST_REST_S", "LONGEST_REST_S", "BACK_S"):
        monkeypatch.setattr(blame, name, SHORT * getattr(blame, name))
    for name in ("WAIT_S", "TASK_S", "QUARANTINE_S", "WHOLE_S", "LAST_STORAGE_ATTEMPT_S"):
        monkeypatch.setattr(attempts, name, SHORT * getattr(attempts, name))
    monkeypatch.setattr("worker.tmdb.client.WHOLE_S", SHORT * WHOLE_S)
    monkeypatch.setattr(blame, "LONG_S", SHORT * blame.LONG_S)
    # On a busy machine there is not the time for all that it takes to blame a page.
    monkeypatch.setattr(blame, "COMPARISONS", 2)
    monkeypatch.setattr(blame, "ENOUGH", 0)
    yield server
    session.close()


class StandsStill(Store):
    """MongoDB stops in the middle of it: when a page is saved, or put into quarantine."""

    def __init__(self, database: Any, pid: int) -> None:
        super().__init__(database)
        self._pid = pid
        self.stopped = False

    def save(self, key: PageKey, page: Page) -> Saved:
        self._stop()
        return super().save(key, page)

    def quarantine(self, key: PageKey | MovieKey, trouble: NotEver, at: datetime) -> None:
        self._stop()
        super().quarantine(key, trouble, at)

    def _stop(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)
        self.stopped = True


@pytest.fixture
def store(mongo: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandsStill]:
    with pymongo.MongoClient[dict[str, Any]](mongo.url, tz_aware=True, socketTimeoutMS=20_000) as client:
        made = StandsStill(client["reelhaul"], mongo.pid)
        made.ping()
        monkeypatch.setattr(tasks, "store", lambda: made)
        monkeypatch.setattr(attempts, "store", lambda: made)
        monkeypatch.setattr(attempts, "fleet_now", lambda: datetime.now(UTC))
        yield made
        os.kill(mongo.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("fault", "stops"),
    [
        # The page comes late, and cannot be stored.
        ("latency=0.5:match=18&.*gte=2020-.*page=2(&|$)", True),
        # It never comes whole while others do, and cannot be put into quarantine.
        ("drip=60:match=18&.*gte=2020-.*page=2(&|$)", True),
        ("drip-head=60:match=18&.*gte=2020-.*page=2(&|$)", True),
        ("hang:match=18&.*gte=2020-.*page=2(&|$)", True),
        # Nothing ever comes whole.
        ("drip=60", False),
        ("drip-head=60", False),
        ("hang", False),
    ],
)
def test_a_task_ends_in_time_whatever_tmdb_and_mongodb_do(
    fleet: EmulatorProcess, store: StandsStill, fault: str, stops: bool
) -> None:
    fleet.configure(faults=[fault])
    begun = time.monotonic()
    with pytest.raises(Reject), message_outcome(KEY, "task") as deadlines:
        tasks.obtain(KEY, None, deadlines)
    assert time.monotonic() - begun < SHORT * (TASK_S + QUARANTINE_S + 2 * LAST_STORAGE_ATTEMPT_S) + LATE_S
    assert store.stopped == stops


def test_mongodb_gets_only_the_time_left(mongo: EmbeddedMongo, store: StandsStill) -> None:
    os.kill(mongo.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(MongoUnavailable):
        retry_storage(lambda: storage.pages.is_fresh(KEY, None), time.monotonic() + 1.0)
    assert time.monotonic() - begun < 1.0 + LATE_S
