"""Backfills marked as finished are reopened when pages or failures are deleted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from producer.enqueue import TRUSTED, find_missing
from tests.support.pages import put
from tests.support.stage import Stage, wait_for
from worker.errors import Rejected
from worker.keys import Cell, Fetch
from worker.storage.database import Storage

GENRE, YEAR = 18, 2024
CELL = Cell(GENRE, str(YEAR))
KEY = CELL.page(2)
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def finished(stage: Stage) -> bool:
    return stage.database["requests"].count_documents({"finished_at": {"$exists": True}}) == 1


def sweep(stage: Stage) -> None:
    assert stage.reelhaul("schedule", "run", "sweep").returncode == 0


def retry(stage: Stage) -> None:
    assert stage.reelhaul("failures", "retry").returncode == 0


def purge(stage: Stage) -> None:
    assert stage.reelhaul("failures", "purge", "--yes").returncode == 0


def expire(stage: Stage) -> None:
    long_ago = {"$set": {"fetched_at": datetime.now(UTC) - timedelta(days=200)}}
    stage.database["pages"].update_one({"_id": KEY.id}, long_ago)
    assert stage.reelhaul("expire", "--yes").returncode == 0


@pytest.mark.parametrize("delete", [retry, purge, expire])
def test_a_deleted_page_whose_message_is_lost_returns(stage: Stage, delete: Callable[[Stage], None]) -> None:
    server = stage.emulator("--movies", "4000")
    worker = stage.worker()
    if delete is not expire:
        server.configure(faults=["error=22:match=[?&]page=2(&|$)"])
    stage.reelhaul("backfill", "--genres", str(GENRE), "--years", str(YEAR))
    failed = stage.database["failures"].count_documents({})
    assert (failed, KEY.id in stage.stored_pages()) == ((0, True) if delete is expire else (1, False))
    sweep(stage)
    assert finished(stage)
    server.configure(faults=[])
    worker.kill()

    delete(stage)
    with redis.Redis.from_url(stage.redis_url) as client:
        client.flushdb()
    assert KEY.id not in stage.stored_pages()
    assert stage.database["failures"].count_documents({}) == 0

    sweep(stage)
    again = stage.worker()
    wait_for(lambda: KEY.id in stage.stored_pages(), watching=[again])


Backfill = Callable[[], dict[str, Any]]


@pytest.fixture
def backfill(storage: Storage) -> Backfill:
    """Reads the only backfill as it is stored: of a single cell, unfinished at first."""
    request = {"genres": [{"id": GENRE, "name": "Drama"}], "years": [YEAR], "max_age_s": None}
    storage.requests.save("it", {"kind": "backfill", **request, "requested_at": AT, "schedule_entry": ""})
    return lambda: storage.requests.all()[0]


def test_requests_are_kept_the_latest_first(storage: Storage) -> None:
    for name, offset in (("a", 0), ("b", 1), ("a", 2)):
        storage.requests.save(name, {"requested_at": AT + offset * SECOND})
    assert [request["_id"] for request in storage.requests.all()] == ["a", "b"]


class TestReopening:
    def test_a_backfill_is_reopened_before_the_change(self, storage: Storage, backfill: Backfill) -> None:
        storage.requests.finish(backfill(), AT)
        assert backfill()["finished_at"] == AT
        with storage.requests.reopening():
            # The block may never end.
            assert "finished_at" not in backfill()

    def test_a_sweep_that_read_before_the_change_cannot_finish_it(
        self, storage: Storage, backfill: Backfill
    ) -> None:
        before = backfill()
        storage.failures.add(Fetch(KEY), Rejected("no"), AT)
        storage.failures.release(storage.failures.quarantined())
        storage.requests.finish(before, AT)
        assert "finished_at" not in backfill()

    def test_a_sweep_that_read_during_the_change_cannot_finish_it(
        self, storage: Storage, backfill: Backfill
    ) -> None:
        with storage.requests.reopening():
            storage.requests.finish(backfill(), AT)
            assert "finished_at" in backfill()
        assert "finished_at" not in backfill()

    def test_a_change_that_fails_reopens_too(self, storage: Storage, backfill: Backfill) -> None:
        def finished_meanwhile() -> None:
            with storage.requests.reopening():
                storage.requests.finish(backfill(), AT)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            finished_meanwhile()
        assert "finished_at" not in backfill()

    @pytest.mark.parametrize("how", ["grows", "shrinks", "was in quarantine", "expires"])
    def test_a_cell_that_lacks_more_pages_reopens_it(
        self, storage: Storage, backfill: Backfill, how: str
    ) -> None:
        if how == "was in quarantine":
            storage.failures.add(Fetch(CELL.page(1)), Rejected("no"), AT)
        else:
            for number in (1, 2):
                put(storage, CELL.page(number), 2, AT)
        storage.requests.finish(backfill(), AT)
        later = AT + SECOND
        if how == "shrinks":
            # As if the worker died before it saved page 1.
            assert storage.pages.drop_beyond(CELL, 1, later) == 1
        elif how == "expires":
            storage.delete_expired(later)
        else:
            put(storage, CELL.page(1), 3, later)
        assert "finished_at" not in backfill()
        assert len(list(find_missing(storage, later))) == 1

    def test_a_refresh_of_the_same_length_does_not_reopen_it(
        self, storage: Storage, backfill: Backfill
    ) -> None:
        for at in (AT, AT + SECOND):
            for number in (1, 2):
                put(storage, CELL.page(number), 2, at)
            if at == AT:
                storage.requests.finish(backfill(), AT)
        assert "finished_at" in backfill()

    def test_finished_at_is_trusted_for_an_hour(self, storage: Storage, backfill: Backfill) -> None:
        """Pages deleted by hand, or lost in a failover, are found missing after that."""
        put(storage, CELL.page(1), 1, AT)
        storage.requests.finish(backfill(), AT)
        storage.pages.collection.delete_many({})
        for at, found in ((AT, 0), (AT + TRUSTED - SECOND, 0), (AT + TRUSTED, 1), (AT - SECOND, 1)):
            assert len(list(find_missing(storage, at))) == found
