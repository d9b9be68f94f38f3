"""A task ends in time whatever TMDB and MongoDB do, well before its message is redelivered."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import redis
from celery.exceptions import Reject

from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from worker import retry, tasks
from worker.app import VISIBILITY_S
from worker.errors import MongoUnavailable
from worker.keys import Fetch, PageKey
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate
from worker.retry import LAST_STORAGE_ATTEMPT_S, QUARANTINE_S, TASK_S, WAIT_S, message_outcome, retry_storage
from worker.settings import Settings
from worker.storage.database import Storage
from worker.tmdb import flakiness
from worker.tmdb.client import WHOLE_S, TmdbClient
from worker.tmdb.credentials import Credentials
from worker.tmdb.session import build_session

KEY = PageKey(18, "2020", 2)
#: Every time limit is shortened to this share; and how late this machine may be.
SHORT, LATE_S = 0.05, 3.0


def test_a_message_is_redelivered_only_well_after_its_task_has_ended() -> None:
    """The limits of what follows the last request, added up."""
    assert WAIT_S + WHOLE_S < TASK_S  # the last request ends before the last comparison
    saved = TASK_S + LAST_STORAGE_ATTEMPT_S
    quarantined = saved + QUARANTINE_S + LAST_STORAGE_ATTEMPT_S
    # After page 1, MongoDB is asked what the cell lacks, and that is enqueued within QUARANTINE_S.
    enqueued = saved + LAST_STORAGE_ATTEMPT_S + QUARANTINE_S
    assert max(quarantined, enqueued) <= VISIBILITY_S - 20


def test_the_read_timeout_is_at_most_a_whole_request() -> None:
    bounds = [part for part in Settings.model_fields["reelhaul_timeout_s"].metadata if hasattr(part, "le")]
    assert [bound.le for bound in bounds] == [WHOLE_S]


@pytest.fixture(scope="module")
def mongo() -> Iterator[EmbeddedMongo]:
    """A MongoDB that these tests may suspend."""
    with EmbeddedMongo() as server:
        yield server


@pytest.fixture
def tmdb(
    monkeypatch: pytest.MonkeyPatch, redis_server: EmbeddedRedis, emulator: Callable[..., EmulatorProcess]
) -> Iterator[EmulatorProcess]:
    """This process as a worker: its limiter never closes, and all time limits are shortened."""
    server = emulator("--movies", "400")
    connection = redis.Redis.from_url(redis_server.url)
    limiter = Limiter(connection, Rate(5000, 1), 500, key=f"limiter-{uuid4().hex}")
    monkeypatch.setattr(limiter, "report_failure", lambda _: None)
    credentials = Credentials("a-token-of-nobody")
    session = build_session(server.base_url, 4, credentials)
    client = TmdbClient(session, server.base_url, limiter, 1.0, credentials)
    monkeypatch.setattr(retry, "limiter", lambda: limiter)
    for module in (retry, tasks):
        monkeypatch.setattr(module, "tmdb_client", lambda: client)
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S", "REQUEUE_PAUSE_S", "SLOW_S"):
        monkeypatch.setattr(flakiness, name, SHORT * getattr(flakiness, name))
    for name in ("WAIT_S", "TASK_S", "QUARANTINE_S", "WHOLE_S", "LAST_STORAGE_ATTEMPT_S"):
        monkeypatch.setattr(retry, name, SHORT * getattr(retry, name))
    monkeypatch.setattr("worker.tmdb.client.WHOLE_S", SHORT * WHOLE_S)
    # What other tests requested in the last minute says nothing here.
    monkeypatch.setattr(flakiness, "_window", flakiness.FlakinessWindow())
    # On a busy machine there is no time for all the comparisons.
    monkeypatch.setattr(flakiness, "COMPARISONS", 2)
    monkeypatch.setattr(flakiness, "ENOUGH", 0)
    yield server
    session.close()


def suspend(pid: int) -> None:
    """Suspend the process and wait until each of its threads has stopped: a busy machine takes a while."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    while any(
        (thread / "stat").read_text().rpartition(")")[2].split()[0] != "T" for thread in threads.iterdir()
    ):
        time.sleep(0.001)


class SuspendedMongo:
    """A storage whose MongoDB is suspended when a page is saved or quarantined."""

    def __init__(self, storage: Storage, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage, self._pid = storage, pid
        self.suspended = False
        for store, method in ((storage.pages, "save"), (storage.failures, "add")):
            monkeypatch.setattr(store, method, self._suspend_before(getattr(store, method)))

    def _suspend_before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            suspend(self._pid)
            self.suspended = True
            return method(*arguments)

        return call


@pytest.fixture
def suspended(mongo: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> Iterator[SuspendedMongo]:
    with pymongo.MongoClient[dict[str, Any]](mongo.url, tz_aware=True, socketTimeoutMS=20_000) as client:
        made = SuspendedMongo(Storage(client[f"reelhaul_{uuid4().hex}"]), mongo.pid, monkeypatch)
        made.storage.ping()
        monkeypatch.setattr(tasks, "storage", lambda: made.storage)
        monkeypatch.setattr(retry, "storage", lambda: made.storage)
        monkeypatch.setattr(retry, "fleet_now", lambda: datetime.now(UTC))
        yield made
        os.kill(mongo.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("fault", "suspends"),
    [
        # The page comes late and cannot be saved.
        ("latency=0.5:match=18&.*gte=2020-.*page=2(&|$)", True),
        # The page never completes while others do, and cannot be quarantined.
        ("drip=60:match=18&.*gte=2020-.*page=2(&|$)", True),
        ("drip-head=60:match=18&.*gte=2020-.*page=2(&|$)", True),
        ("hang:match=18&.*gte=2020-.*page=2(&|$)", True),
        # No response ever completes.
        ("drip=60", False),
        ("drip-head=60", False),
        ("hang", False),
    ],
)
def test_a_task_ends_in_time_whatever_tmdb_and_mongodb_do(
    tmdb: EmulatorProcess, suspended: SuspendedMongo, fault: str, suspends: bool
) -> None:
    tmdb.configure(faults=[fault])
    begun = time.monotonic()
    with pytest.raises(Reject), message_outcome(Fetch(KEY), "task") as deadlines:
        tasks.fetch_and_save(Fetch(KEY), deadlines)
    assert time.monotonic() - begun < SHORT * (TASK_S + QUARANTINE_S + 2 * LAST_STORAGE_ATTEMPT_S) + LATE_S
    assert suspended.suspended == suspends


def test_mongodb_gets_only_the_time_left(mongo: EmbeddedMongo, suspended: SuspendedMongo) -> None:
    suspend(mongo.pid)
    begun = time.monotonic()
    with pytest.raises(MongoUnavailable):
        retry_storage(lambda: suspended.storage.pages.is_fresh(KEY, None), time.monotonic() + 1.0)
    assert time.monotonic() - begun < 1.0 + LATE_S
