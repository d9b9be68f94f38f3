"""What is taken out of `pages` or `failures` again is missing, though its backfill was noted as finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
import redis

from producer.enqueue import TRUSTED, find_missing
from tests.support.stage import Stage, wait_for
from worker.errors import Rejected
from worker.keys import Cell
from worker.records import Page
from worker.storage.database import Storage

GENRE, YEAR = 18, 2024
CELL = Cell(GENRE, str(YEAR))
KEY = CELL.page(2)
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def finished(stage: Stage) -> bool:
    return stage.database["backfills"].count_documents({"finished_at": {"$exists": True}}) == 1


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


@pytest.mark.parametrize("take_away", [retry, purge, expire])
def test_a_page_that_is_taken_away_and_whose_message_is_lost_comes_back(
    stage: Stage, take_away: Callable[[Stage], None]
) -> None:
    server = stage.emulator("--movies", "4000")
    worker = stage.worker()
    if take_away is not expire:
        server.configure(faults=["error=22:match=[?&]page=2(&|$)"])
    stage.reelhaul("backfill", "--genres", str(GENRE), "--years", str(YEAR))
    failed = stage.database["failures"].count_documents({})
    assert (failed, KEY.id in stage.stored_pages()) == ((0, True) if take_away is expire else (1, False))
    sweep(stage)
    assert finished(stage)
    server.configure(faults=[])
    worker.kill()

    take_away(stage)
    with redis.Redis.from_url(stage.redis_url) as client:
        client.flushdb()
    assert KEY.id not in stage.stored_pages()
    assert stage.database["failures"].count_documents({}) == 0

    sweep(stage)
    again = stage.worker()
    wait_for(lambda: KEY.id in stage.stored_pages(), watching=[again])


@pytest.fixture
def storage(mongo_url: str) -> Iterator[Storage]:
    with pymongo.MongoClient[dict[str, Any]](mongo_url, tz_aware=True, tzinfo=UTC) as client:
        yield Storage(client.get_default_database())


@pytest.fixture
def asked(storage: Storage) -> Callable[[], dict[str, Any]]:
    """The request as it is kept: for one cell, and not finished yet."""
    request = {"genres": [{"id": GENRE, "name": "Drama"}], "years": [YEAR], "max_age_s": None, "schedule_entry": ""}
    storage.backfills.save("it", {**request, "requested_at": AT})
    return lambda: storage.backfills.all()[0]


def put(storage: Storage, number: int, total_pages: int, at: datetime = AT) -> None:
    storage.pages.save(CELL.page(number), Page(number, [], total_pages, 20 * total_pages, at, f"{at}", b""))


Asked = Callable[[], dict[str, Any]]


class TestFinished:
    def test_it_is_until_something_is_taken_away(self, storage: Storage, asked: Asked) -> None:
        storage.backfills.finish(asked(), AT)
        assert asked()["finished_at"] == AT
        with storage.backfills.reopening():
            # Before: the block may never come to its end.
            assert "finished_at" not in asked()

    def test_a_sweep_that_looked_before_cannot_finish_it_after(self, storage: Storage, asked: Asked) -> None:
        before = asked()
        storage.failures.add(KEY, Rejected("no"), AT)
        storage.failures.release(storage.failures.quarantined())
        storage.backfills.finish(before, AT)
        assert "finished_at" not in asked()

    def test_a_sweep_that_looks_while_it_happens_cannot_either(self, storage: Storage, asked: Asked) -> None:
        with storage.backfills.reopening():
            storage.backfills.finish(asked(), AT)
            assert "finished_at" in asked()
        assert "finished_at" not in asked()

    def test_the_notes_of_a_block_that_fails_stay(self, storage: Storage, asked: Asked) -> None:
        def finished_meanwhile() -> None:
            with storage.backfills.reopening():
                storage.backfills.finish(asked(), AT)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            finished_meanwhile()
        assert "finished_at" not in asked()

    @pytest.mark.parametrize("how", ["grows", "shrinks", "was in quarantine", "expires"])
    def test_a_cell_that_lacks_more_than_before_reopens_it(
        self, storage: Storage, asked: Asked, how: str
    ) -> None:
        if how == "was in quarantine":
            storage.failures.add(CELL.page(1), Rejected("no"), AT)
        else:
            for number in (1, 2):
                put(storage, number, 2)
        storage.backfills.finish(asked(), AT)
        later = AT + SECOND
        if how == "shrinks":
            assert (
                storage.pages.drop_beyond(CELL, 1, later) == 1
            )  # and here the worker dies, before page 1 says so
        elif how == "expires":
            storage.delete_expired(later)
        else:
            put(storage, 1, 3, later)
        assert "finished_at" not in asked()
        assert len(list(find_missing(storage, later))) == 1

    def test_a_refresh_that_finds_the_same_length_does_not(self, storage: Storage, asked: Asked) -> None:
        for number in (1, 2):
            put(storage, number, 2)
        storage.backfills.finish(asked(), AT)
        put(storage, 1, 2, AT + SECOND)
        put(storage, 2, 2, AT + SECOND)
        assert "finished_at" in asked()

    def test_an_older_answer_drops_nothing_that_a_newer_page_1_needs(self, storage: Storage) -> None:
        put(storage, 1, 2, AT + SECOND)
        put(storage, 2, 2, AT)
        assert storage.pages.drop_beyond(CELL, 1, AT + SECOND / 2) == 0
        assert storage.pages.count() == 2

    def test_it_is_trusted_for_an_hour(self, storage: Storage, asked: Asked) -> None:
        """What goes by another way, by hand or with what a failover lost, is missed then."""
        put(storage, 1, 1)
        storage.backfills.finish(asked(), AT)
        storage.pages.collection.delete_many({})
        for at, found in ((AT, 0), (AT + TRUSTED - SECOND, 0), (AT + TRUSTED, 1), (AT - SECOND, 1)):
            assert len(list(find_missing(storage, at))) == found

    def test_what_failed_again_meanwhile_stays_in_quarantine(self, storage: Storage) -> None:
        storage.failures.add(KEY, Rejected("no"), AT)
        chosen = storage.failures.quarantined()
        storage.failures.add(KEY, Rejected("still no"), AT + SECOND)
        storage.failures.release(chosen)
        assert [failure["attempts"] for failure in storage.failures.quarantined().values()] == [2]
