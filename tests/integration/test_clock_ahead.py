"""The fleet's clock was ahead for a while: what was stored then must not block anything."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from producer.coverage import CoverageIndex
from producer.enqueue import find_missing
from producer.requests.backfills import Backfill
from producer.schedule.tasks import begun_within
from tests.support.redis_faults import LeapingRedis, needs_faketime
from tests.support.stage import Stage
from worker.errors import Rejected
from worker.keys import ChangesKey, Fetch, MovieKey, PageKey
from worker.records import Details, Page
from worker.storage.changes import Scope
from worker.storage.database import Storage
from worker.storage.mongo import EPOCH

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
AHEAD = NOW + timedelta(days=400)
KEY = PageKey(18, "1999", 1)


@pytest.fixture
def storage(database: Database[dict[str, Any]]) -> Storage:
    return Storage(database, lambda: NOW)


def page(at: datetime, title: str = "as it was") -> Page:
    movie = {"id": 1, "title": title, "genre_ids": [18], "release_date": "1999-05-01"}
    return Page(1, [movie], 1, 1, at, f"{title:0>64}", b"")


def test_a_newer_response_wins_over_one_from_the_future(storage: Storage) -> None:
    storage.pages.save(KEY, page(AHEAD))
    storage.pages.save(KEY, page(NOW, "as it is"))
    movie = storage.movies.collection.find_one({"_id": 1})
    assert movie is not None
    assert (movie["title"], movie["_meta"]["fetched_at"]) == ("as it is", NOW)
    assert [record.totals.fetched_at for record in storage.pages.each() if record.totals] == [NOW]


def test_the_newer_of_two_wins_after_one_from_the_future(storage: Storage) -> None:
    for at, title in ((AHEAD, "ahead"), (NOW, "newer"), (NOW - timedelta(seconds=30), "older")):
        storage.pages.save(KEY, page(at, title))
    movie = storage.movies.collection.find_one({"_id": 1})
    assert movie is not None
    assert movie["title"] == "newer"


def test_a_page_from_the_future_is_not_fresh(storage: Storage) -> None:
    storage.pages.save(KEY, page(AHEAD))
    moment = NOW - timedelta(days=1)
    assert not storage.pages.is_fresh(KEY, moment)
    assert storage.pages.is_fresh(KEY, None)
    assert list(storage.pages.missing([KEY.cell], moment)) == [KEY]
    indexes = CoverageIndex.read(storage, [None, moment])
    assert [indexes[at].coverage(KEY.cell).missing for at in (None, moment)] == [0, 1]


def test_a_page_within_minutes_of_now_is_fresh(storage: Storage) -> None:
    """Clocks of servers that take over from each other differ a little."""
    storage.pages.save(KEY, page(NOW + timedelta(minutes=1)))
    assert storage.pages.is_fresh(KEY, NOW - timedelta(days=1))


def test_a_failure_from_the_future_is_ignored(storage: Storage) -> None:
    storage.failures.add(Fetch(KEY), Rejected("HTTP 404"), AHEAD)
    moment = NOW - timedelta(days=1)
    assert list(storage.pages.missing([KEY.cell], moment)) == [KEY]
    assert CoverageIndex.read(storage, [moment])[moment].coverage(KEY.cell).quarantined == 0
    storage.pages.save(KEY, page(NOW))
    assert storage.failures.quarantined() == {}


def test_a_schedule_entry_claimed_in_the_future_is_due(storage: Storage) -> None:
    assert storage.schedule.claim("changes", timedelta(hours=1), AHEAD)
    assert storage.schedule.claim("changes", timedelta(hours=1), NOW)
    assert not storage.schedule.claim("changes", timedelta(hours=1), NOW)
    for claimed_at, lately in ((AHEAD, False), (NOW, True), (NOW - timedelta(hours=1), False)):
        assert begun_within({"claimed_at": claimed_at}, timedelta(hours=1), NOW) == lately


def test_a_backfill_requested_in_the_future_ends(storage: Storage) -> None:
    requested = Backfill({18: "Drama"}, (1999,), timedelta(0), AHEAD)
    storage.requests.save(requested.id, requested.to_document())
    assert [list(missing) for missing in find_missing(storage, NOW)] == [
        [Fetch(KEY, NOW, request=requested.id)]
    ]
    storage.pages.save(KEY, page(NOW))
    assert [list(missing) for missing in find_missing(storage, NOW)] == []


def test_a_page_of_changes_from_the_future_is_ignored(storage: Storage) -> None:
    key = ChangesKey("2026-05-01", 1)
    storage.changes.save(key, Page(1, [{"id": 1}], 1, 1, AHEAD, "0", b""))
    assert storage.changes.first_unread(NOW.date(), AHEAD.date()) == NOW.date()
    assert storage.changes.changed(Scope((key.day,), None, new=True)).movies == 0
    storage.changes.save(key, Page(1, [{"id": 1}], 1, 1, NOW, "0", b""))
    assert storage.changes.changed(Scope((key.day,), None, new=True)).lacking == {1: NOW}


def test_a_movie_fetched_in_the_future_is_fetched_again(storage: Storage) -> None:
    storage.pages.save(KEY, page(AHEAD))
    assert storage.movies.times([1]) == {1: EPOCH}
    assert [id_ for id_, _ in storage.movies.fetched_before(NOW - timedelta(days=100))] == [1]


def test_a_movie_from_the_future_can_go_and_return(storage: Storage) -> None:
    storage.pages.save(KEY, page(AHEAD))
    assert storage.movies.tombstone([1], NOW - timedelta(minutes=1)) == 1
    storage.pages.save(KEY, page(NOW))
    assert [movie["_id"] for movie in storage.movies.each()] == [1]
    storage.movies.tombstone([1], AHEAD)
    movie = {"id": 1, "title": "as it is", "genres": [{"id": 18, "name": "Drama"}]}
    storage.movies.save_details(MovieKey(1), Details(movie, NOW, b""), whole=False)
    assert [movie["title"] for movie in storage.movies.each()] == ["as it is"]


@needs_faketime
def test_a_clock_that_was_two_days_ahead_blocks_nothing(
    tmp_path: Path, leaping_redis: LeapingRedis, mongo_url: str
) -> None:
    with closing(Stage(tmp_path, leaping_redis.url, mongo_url)) as stage:
        emulator = stage.emulator("--movies", "120")
        leaping_redis.leap_to(2 * 86_400.0)
        stage.worker()
        request = ("--genres", "Drama", "--years", "1990..1992", "--quiet")
        assert stage.reelhaul("backfill", *request).returncode == 0
        pages = len(stage.stored_pages())
        leaping_redis.leap_to(0.0)
        emulator.reset()
        assert stage.reelhaul("fresh", "--max-age", "1h", "--quiet").returncode == 1
        refreshed = stage.reelhaul("refresh", "--max-age", "1h", *request)
        assert refreshed.returncode == 0, refreshed.stderr
        assert len([row for row in emulator.log() if row[3] == "discover"]) == pages
        fresh = json.loads(stage.reelhaul("fresh", "--max-age", "1h", "--json").stdout)
        assert fresh["stale"] == 0
