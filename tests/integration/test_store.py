"""The store on a real server: order-free merging, what is missing, what cannot be stored."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pymongo
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from producer.coverage import CoverageIndex
from tests.chaos.harness import ChaosMongo
from worker.errors import Response(0, b""), MongoUnavailable, Rejected, Unstorable
from worker.keys import Cell, PageKey
from worker.records import Page, Response
from worker.storage.database import KEPT_BODY, Count, Storage
from worker.storage.merge import Saved

AT = datetime(2026, 1, 1, 12, 0, 0, 123_000, UTC)
CELL = Cell(18, "1999")
KEY = CELL.page(1)
#: Examples that share one database: each empties it first.
ON_ONE_DATABASE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Delivery = tuple[PageKey, Page]


def connect(url: str, patience_ms: int = 5_000) -> pymongo.MongoClient[dict[str, Any]]:
    return pymongo.MongoClient(url, tz_aware=True, tzinfo=UTC, serverSelectionTimeoutMS=patience_ms)


@pytest.fixture
def storage(mongo_url: str) -> Iterator[Storage]:
    with connect(mongo_url) as client:
        yield Storage(client.get_default_database())


def page_of(
    movies: Sequence[dict[str, Any]] = (), *, number: int = 1, total_pages: int = 1, at: datetime = AT
) -> Page:
    results = list(movies)
    body = json.dumps({"page": number, "results": results, "total_pages": total_pages}).encode()
    return Page(number, results, total_pages, len(results), at, sha256(body).hexdigest(), body)


def put(storage: Storage, key: PageKey, total_pages: int = 1, at: datetime = AT) -> None:
    storage.pages.save(key, page_of(number=key.page, total_pages=total_pages, at=at))


def contents(storage: Storage) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return list(storage.movies.collection.find().sort("_id", 1)), list(
        storage.pages.collection.find().sort("_id", 1)
    )


def empty(storage: Storage) -> None:
    for collection in (storage.movies.collection, storage.pages.collection, storage.failures.collection):
        collection.delete_many({})


TIMES = [AT + timedelta(milliseconds=offset) for offset in (0, 1, 60_000)]
KEYS = [PageKey(18, "1999", 1), PageKey(18, "1999", 2), PageKey(35, "1999", 1)]
MOVIES = st.builds(lambda id_, title: {"id": id_, "title": title}, st.integers(1, 4), st.sampled_from("abc"))
DELIVERIES = st.builds(
    lambda key, movies, total_pages, at: (
        key,
        page_of(movies, number=key.page, total_pages=total_pages, at=at),
    ),
    st.sampled_from(KEYS),
    st.lists(MOVIES, max_size=3),
    st.integers(0, 2),
    st.sampled_from(TIMES),
)


class TestMerging:
    @ON_ONE_DATABASE
    @given(st.data())
    def test_any_number_of_deliveries_in_any_order_leave_the_same(
        self, storage: Storage, data: st.DataObject
    ) -> None:
        deliveries: list[Delivery] = data.draw(st.lists(DELIVERIES, min_size=1, max_size=5))
        empty(storage)
        for delivery in deliveries:
            storage.pages.save(*delivery)
        once = contents(storage)
        repeated = data.draw(st.lists(st.sampled_from(deliveries), max_size=4))
        empty(storage)
        for delivery in data.draw(st.permutations(deliveries + repeated)):
            storage.pages.save(*delivery)
        assert contents(storage) == once

    @ON_ONE_DATABASE
    @given(st.lists(DELIVERIES, min_size=1, max_size=5))
    def test_what_is_left_is_the_newest_of_each(self, storage: Storage, deliveries: list[Delivery]) -> None:
        empty(storage)
        for delivery in deliveries:
            storage.pages.save(*delivery)
        movies, pages = contents(storage)
        seen: dict[int, list[tuple[datetime, dict[str, Any], str]]] = {}
        for key, page in deliveries:
            for movie in page.results:
                seen.setdefault(movie["id"], []).append((page.fetched_at, movie, key.id))
        assert [movie["_id"] for movie in movies] == sorted(seen)
        for movie in movies:
            versions, meta = seen[movie.pop("_id")], movie.pop("_meta")
            newest = max(at for at, _, _ in versions)
            assert meta["first_seen"] == min(at for at, _, _ in versions)
            assert meta["fetched_at"] == newest
            assert (movie, meta["page"]) in [(raw, page) for at, raw, page in versions if at == newest]
        assert {mark["_id"]: mark["fetched_at"] for mark in pages} == {
            key.id: max(page.fetched_at for other, page in deliveries if other == key)
            for key, _ in deliveries
        }

    def test_eight_threads_at_once_leave_the_same(self, storage: Storage) -> None:
        deliveries = [
            (KEYS[n % 3], page_of(movies, number=KEYS[n % 3].page, total_pages=n % 4, at=TIMES[n % 2]))
            for n in range(8)
            for movies in [[{"id": id_, "title": f"{id_} of {n}"} for id_ in range(n % 3, n % 3 + 6)]]
        ]
        for delivery in deliveries:
            storage.pages.save(*delivery)
        once = contents(storage)
        for _ in range(3):
            empty(storage)
            failed = at_once(
                [deliveries[n:] + deliveries[:n] for n in range(8)],
                lambda delivery: storage.pages.save(*delivery),
            )
            assert failed == []
            assert contents(storage) == once

    def test_threads_that_meet_count_every_movie_once(self, storage: Storage) -> None:
        def movies(word: str) -> list[dict[str, Any]]:
            return [{"id": id_, "title": f"{id_} {word}"} for id_ in range(40)]

        saved: list[Saved] = []
        for at, word in ((AT, "new"), (TIMES[-1], "changed")):
            saved.clear()
            # Each begins elsewhere, so that they meet in the middle; which of them writes does not matter.
            deliveries = [
                (KEY, page_of(movies(word)[n * 5 :] + movies(word)[: n * 5], at=at)) for n in range(8)
            ]
            failed = at_once([[d] for d in deliveries], lambda d: saved.append(storage.pages.save(*d)))
            assert failed == []
            told = sum(one.inserted for one in saved), sum(one.changed for one in saved)
            assert told == ((40, 0) if word == "new" else (0, 40))

    def test_older_never_replaces_newer(self, storage: Storage) -> None:
        newer, older = AT, AT - timedelta(milliseconds=1)
        storage.pages.save(KEY, page_of([{"id": 603, "title": "new", "more": 1}], total_pages=3, at=newer))
        saved = storage.pages.save(KEY, page_of([{"id": 603, "title": "old"}], total_pages=2, at=older))
        assert saved == (0, 0)
        [movie], [mark] = contents(storage)
        assert (movie["title"], movie["more"]) == ("new", 1)
        assert (movie["_meta"]["first_seen"], movie["_meta"]["fetched_at"]) == (older, newer)
        assert (mark["total_pages"], mark["fetched_at"]) == (3, newer)

    def test_a_newer_movie_that_is_written_in_between_stays(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, between, newest = (
            (KEY, page_of([{"id": 603, "title": title}], at=AT + timedelta(seconds=second)))
            for second, title in enumerate(("first", "between", "newest"))
        )
        storage.pages.save(*first)
        just_before(monkeypatch, storage.movies.collection, "bulk_write", lambda: storage.pages.save(*newest))
        storage.pages.save(*between)
        [movie], _ = contents(storage)
        assert movie["title"] == "newest"
        assert movie["_meta"]["fetched_at"] == newest[1].fetched_at

    def test_first_seen_spares_what_is_written_in_between(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, older, newest = (
            (KEY, page_of([{"id": 603, "title": title}], at=AT + timedelta(seconds=second)))
            for second, title in ((0, "first"), (-1, "older"), (1, "newest"))
        )
        storage.pages.save(*first)
        just_before(monkeypatch, storage.movies.collection, "bulk_write", lambda: storage.pages.save(*newest))
        storage.pages.save(*older)
        [movie], _ = contents(storage)
        assert movie["_meta"]["first_seen"] == older[1].fetched_at
        assert movie["_meta"]["fetched_at"] == newest[1].fetched_at

    def test_a_newer_page_record_that_is_written_in_between_stays(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(storage, KEY, 1, at=AT)
        newest = AT + timedelta(seconds=2)
        just_before(
            monkeypatch, storage.pages.collection, "replace_one", lambda: put(storage, KEY, 3, at=newest)
        )
        put(storage, KEY, 2, at=AT + timedelta(seconds=1))
        _, [mark] = contents(storage)
        assert (mark["total_pages"], mark["fetched_at"]) == (3, newest)

    def test_newer_wins_whole_so_that_a_field_can_go(self, storage: Storage) -> None:
        storage.pages.save(KEY, page_of([{"id": 603, "title": "old", "gone": 1}]))
        later = AT + timedelta(days=1)
        assert storage.pages.save(KEY, page_of([{"id": 603, "title": "new"}], at=later)) == (0, 1)
        [movie], _ = contents(storage)
        assert set(movie) == {"_id", "id", "title", "_meta"}
        assert (movie["_meta"]["first_seen"], movie["_meta"]["fetched_at"]) == (AT, later)

    def test_what_did_not_change_is_only_touched(self, storage: Storage) -> None:
        movie = {"id": 603, "title": "same"}
        assert storage.pages.save(KEY, page_of([movie])) == (1, 0)
        assert storage.pages.save(KEY, page_of([movie], at=AT + timedelta(days=1))) == (0, 0)
        [stored], _ = contents(storage)
        assert stored["_meta"]["fetched_at"] == AT + timedelta(days=1)

    def test_a_page_keeps_the_order_and_the_twice_told(self, storage: Storage) -> None:
        page = page_of([{"id": id_} for id_ in (7, 3, 7, 5)], total_pages=9)
        assert storage.pages.save(KEY, page).inserted == 3
        _, [mark] = contents(storage)
        assert mark == {
            "_id": "18:1999:1",
            "genre_id": 18,
            "window": "1999",
            "page": 1,
            "total_pages": 9,
            "total_results": 4,
            "movie_ids": [7, 3, 7, 5],
            "fetched_at": AT,
            "sha256": page.sha256,
        }


class TestDuties:
    def test_a_reading_goes_on_from_where_it_is_and_only_once(self, storage: Storage) -> None:
        one, two, three = ({"page": number} for number in (1, 2, 3))
        storage.schedule.set_state("changes", reading={"at": one, "since": AT})
        assert storage.schedule.advance_reading("changes", one, two, AT)
        assert not storage.schedule.advance_reading("changes", one, three, AT)
        assert storage.schedule.states()["changes"]["reading"] == {"at": two, "after": one, "since": AT}

    def test_a_claim_is_given_once_a_period(self, storage: Storage) -> None:
        hour = timedelta(hours=1)
        assert storage.schedule.claim("x", hour, AT)
        assert not storage.schedule.claim("x", hour, AT + hour / 2)
        assert storage.schedule.claim("x", hour, AT + hour)


class TestFaithfulness:
    @pytest.mark.parametrize(
        "fields",
        [
            {"a.b": 1, "a": {"b.c": {"d.": 2}, ".": 3}},
            {"$set": {"title": "no operator"}, "x": {"$gt": 1, "$ref": "a"}},
            {"x": {"$gt": 1, "$ref": "a"}},
            {"": "empty name", "x": {"": {"": 1}}},
            {"nul": "a\x00b", "emoji": "🎬", "bidi": "\u202e", "combining": "e\u0301"},
            {"int": 2**63 - 1, "least": -(2**63), "float": 7.5, "zero": 0, "minus": -0.5, "whole": 7.0},
            {"null": None, "true": True, "list": [1, [2, [None, {}]]], "empty": {}, "texts": ["", "a"]},
            {"deep": {"a": [{"b": [{"c": [{"d": None}]}]}]}},
            {"_Id": 1, "__meta": 2, "x": {"_id": 3, "_meta": 4}},
            {"date": "2026-01-01T00:00:00Z", "oid": {"$oid": "0123456789abcdef01234567"}, "x": {"$date": 0}},
            {"long": "x" * 1_000_000},
        ],
        ids=lambda fields: next(iter(fields)) or "empty",
    )
    def test_a_movie_comes_back_field_by_field_in_its_order(
        self, storage: Storage, fields: dict[str, Any]
    ) -> None:
        movie = {"title": "first", **fields, "id": 603}
        storage.pages.save(KEY, page_of([movie]))
        changed = {**movie, "title": "second"}
        for expected, at in ((movie, AT), (changed, AT + timedelta(days=1))):
            storage.pages.save(KEY, page_of([expected], at=at))
            [stored] = storage.movies.each()
            del stored["_id"], stored["_meta"]
            assert json.dumps(stored) == json.dumps(expected)

    @pytest.mark.parametrize(
        "movie",
        [
            {"id": 603, "n": 2**63},
            {"id": 603, "n": -(2**63) - 1},
            {"id": 603, "deep": [{"n": 2**64}]},
            {"id": 2**63},
            {"id": 603, "title": "\ud800"},
            {"id": 603, "\ud800": 1},
            {"id": 603, "nul\x00": 1},
            {"id": 603, "_id": 1},
            {"id": 603, "_meta": {}},
            {"id": 603, "overview": "x" * 17_000_000},
        ],
        ids=["bigint", "smallint", "deep", "id", "surrogate", "name", "nul", "_id", "_meta", "oversize"],
    )
    def test_what_mongodb_cannot_hold_is_unstorable(self, storage: Storage, movie: dict[str, Any]) -> None:
        page = page_of([{"id": 1}, movie])
        with pytest.raises(Unstorable) as refused:
            storage.pages.save(KEY, page)
        assert "\n" not in str(refused.value)
        assert refused.value.response == Response(200, page.body)
        assert not storage.pages.is_fresh(KEY, None)
        storage.failures.add(KEY, refused.value, AT)
        [failure] = storage.failures.collection.find()
        assert (failure["_id"], failure["class"], failure["status"]) == (KEY.id, "unstorable", 200)
        assert failure["body"] == page.body[:KEPT_BODY]

    def test_totals_beyond_64_bits_are_unstorable_too(self, storage: Storage) -> None:
        with pytest.raises(Unstorable):
            storage.pages.save(KEY, page_of(total_pages=2**63))


class TestQuarantine:
    def test_counts_attempts_and_keeps_first_and_last(self, storage: Storage) -> None:
        for offset in (0, 5, -3):
            at = AT + timedelta(seconds=offset)
            storage.failures.add(KEY, Rejected(f"HTTP 404 at {offset}", Response(404, b"gone")), at)
        [failure] = storage.failures.collection.find()
        assert (
            failure.items()
            >= {
                "_id": KEY.id,
                "genre_id": 18,
                "window": "1999",
                "page": 1,
                "class": "rejected",
                "reason": "HTTP 404 at -3",
                "status": 404,
                "body": b"gone",
                "attempts": 3,
                "first_at": AT - timedelta(seconds=3),
                "last_at": AT + timedelta(seconds=5),
            }.items()
        )

    @pytest.mark.parametrize("body", [b"\xff\x00\xfe", b"x" * (KEPT_BODY + 1)])
    def test_keeps_bytes_as_they_are_up_to_a_length(self, storage: Storage, body: bytes) -> None:
        storage.failures.add(KEY, Rejected("no", Response(404, body)), AT)
        [failure] = storage.failures.collection.find()
        assert failure["body"] == body[:KEPT_BODY]

    def test_keeps_no_header_that_may_tell_of_us(self, storage: Storage) -> None:
        headers = {"Set-Cookie": "session=1", "AUTHORIZATION": "Bearer 1", "Server": "openresty"}
        storage.failures.add(KEY, Rejected("no", Response(404, b"", headers)), AT)
        [failure] = storage.failures.collection.find()
        assert failure["headers"] == {"Server": "openresty"}

    @pytest.mark.parametrize(
        "reason",
        [
            "HTTP 404: \ud800",
            "a\x00b",
            "x" * 10_000,
        ],
    )
    def test_takes_any_reason(self, storage: Storage, reason: str) -> None:
        """TMDB's words are in it, and JSON can hold what BSON cannot."""
        storage.failures.add(KEY, Rejected(reason), AT)
        assert list(storage.failures.quarantined()) == [KEY]

    def test_ends_when_the_page_is_stored_later(self, storage: Storage) -> None:
        storage.failures.add(KEY, Rejected("no"), AT)
        put(storage, KEY, at=AT - timedelta(seconds=1))
        assert list(storage.failures.quarantined()) == [KEY]
        put(storage, KEY, at=AT + timedelta(seconds=1))
        assert storage.failures.quarantined() == {}


class TestMissing:
    def missing(self, storage: Storage, *cells: Cell, fresh_after: datetime | None = None) -> list[str]:
        return [key.id for key in storage.pages.missing(cells or [CELL], fresh_after)]

    def test_of_nothing_page_1(self, storage: Storage) -> None:
        assert self.missing(storage) == ["18:1999:1"]

    def test_nothing_of_no_cells(self, storage: Storage) -> None:
        assert list(storage.pages.missing([], None)) == []

    @pytest.mark.parametrize("total_pages", [0, 1])
    def test_nothing_of_one_page_or_none(self, storage: Storage, total_pages: int) -> None:
        put(storage, KEY, total_pages)
        assert self.missing(storage) == []

    def test_what_page_1_tells_minus_what_is_stored(self, storage: Storage) -> None:
        put(storage, KEY, 5)
        put(storage, CELL.page(3), 5)
        assert self.missing(storage) == ["18:1999:2", "18:1999:4", "18:1999:5"]

    def test_while_page_1_is_missing_it_stands_for_all(self, storage: Storage) -> None:
        put(storage, CELL.page(2), 5)
        assert self.missing(storage) == ["18:1999:1"]

    def test_pages_beyond_the_total_do_not_count(self, storage: Storage) -> None:
        put(storage, KEY, 3)
        for number in (3, 4, 5, 6):
            put(storage, CELL.page(number), 6)
        assert self.missing(storage) == ["18:1999:2"]

    def test_the_latest_page_1_counts(self, storage: Storage) -> None:
        put(storage, KEY, 2)
        put(storage, KEY, 3, at=AT + timedelta(seconds=1))
        assert self.missing(storage) == ["18:1999:2", "18:1999:3"]

    def test_what_is_older_than_asked_for(self, storage: Storage) -> None:
        put(storage, KEY, 3, at=AT)
        put(storage, CELL.page(2), 3, at=AT - timedelta(milliseconds=1))
        put(storage, CELL.page(3), 3, at=AT)
        assert self.missing(storage, fresh_after=AT) == ["18:1999:2"]
        assert self.missing(storage, fresh_after=AT + timedelta(milliseconds=1)) == ["18:1999:1"]

    def test_not_what_is_in_quarantine(self, storage: Storage) -> None:
        put(storage, KEY, 3)
        storage.failures.add(CELL.page(2), Rejected("no"), AT)
        other = Cell(35, "1999")
        storage.failures.add(other.page(1), Rejected("no"), AT)
        assert self.missing(storage, CELL, other) == ["18:1999:3"]

    def test_what_was_quarantined_before_the_refresh_is_asked_for_again(self, storage: Storage) -> None:
        put(storage, KEY, 2, at=AT)
        storage.failures.add(CELL.page(2), Rejected("no"), AT - timedelta(seconds=1))
        assert self.missing(storage, fresh_after=AT) == ["18:1999:2"]
        assert self.missing(storage) == []

    def test_above_500_pages_both_halves(self, storage: Storage) -> None:
        put(storage, KEY, 501)
        first, second = CELL.halves()
        assert self.missing(storage) == [first.page(1).id, second.page(1).id]
        put(storage, first.page(1), 2)
        assert self.missing(storage) == [first.page(2).id, second.page(1).id]
        put(storage, second.page(1), 501)
        quarters = [half.page(1).id for half in second.halves()]
        assert sorted(self.missing(storage)) == sorted([first.page(2).id, *quarters])

    def test_above_500_pages_of_one_day_the_first_500(self, storage: Storage) -> None:
        day = Cell(18, "1999-01-01/1999-01-01")
        put(storage, day.page(1), 733)
        assert self.missing(storage, day) == [day.page(number).id for number in range(2, 501)]

    def test_many_cells_in_their_order(self, storage: Storage) -> None:
        cells = [Cell(genre, str(year)) for year in range(1900, 1950) for genre in (18, 35, 27)]
        assert self.missing(storage, *cells) == [cell.page(1).id for cell in cells]


#: Of one page: not stored, stored before AT or at AT; never failed, failed before AT or at AT.
BEFORE = AT - timedelta(hours=1)
FATES = st.tuples(st.sampled_from([None, BEFORE, AT]), st.sampled_from([None, BEFORE, AT]))


class TestCoverage:
    """What `status` counts and what is enqueued are two readings of the same documents."""

    #: A quarantined page beyond the end, one that was stored before it failed, stale pages beyond the end.
    BEYOND_FAILED: ClassVar = [(AT, None), (None, None), (None, None), (None, None), (None, None), (None, AT)]
    STORED_THEN_FAILED: ClassVar = [(AT, None), (BEFORE, AT), (None, None), *[(None, None)] * 3]
    BEYOND_STALE: ClassVar = [
        (AT, None),
        (None, None),
        (None, None),
        (None, None),
        (BEFORE, None),
        (AT, None),
    ]

    @ON_ONE_DATABASE
    @example(2, BEYOND_FAILED, None)
    @example(3, STORED_THEN_FAILED, None)
    @example(0, BEYOND_STALE, AT)
    @given(st.integers(0, 4), st.lists(FATES, min_size=6, max_size=6), st.sampled_from([None, AT]))
    def test_counts_as_missing_what_would_be_fetched(
        self,
        storage: Storage,
        total_pages: int,
        fates: list[tuple[datetime | None, datetime | None]],
        fresh_after: datetime | None,
    ) -> None:
        empty(storage)
        for number, (stored_at, failed_at) in enumerate(fates, start=1):
            if stored_at:
                put(storage, CELL.page(number), total_pages, at=stored_at)
            if failed_at:
                storage.failures.add(CELL.page(number), Rejected("no"), failed_at)
        would_be_fetched = list(storage.pages.missing([CELL], fresh_after))
        assert CoverageIndex.read(storage, [fresh_after])[fresh_after].coverage(CELL).missing == len(
            would_be_fetched
        )

    def test_each_moment_takes_off_what_is_older(self, storage: Storage) -> None:
        for number, offset_s in ((1, -60), (2, 0), (3, 60)):
            put(storage, CELL.page(number), 3, at=AT + timedelta(seconds=offset_s))
        other = Cell(35, "1999-01-01/1999-06-30")
        put(storage, other.page(1), 1, at=AT - timedelta(milliseconds=1))
        later = AT + timedelta(seconds=61)
        wanted = {
            None: {CELL: Count(0b1110, 3), other: Count(0b10, 1)},
            AT - timedelta(milliseconds=1): {CELL: Count(0b1100, -1), other: Count(0b10, 1)},
            AT: {CELL: Count(0b1100, -1)},
            later: {},
        }
        assert storage.pages.counts(wanted) == wanted
        assert storage.pages.counts([AT]) == {AT: wanted[AT]}
        assert storage.pages.counts([]) == {}
        # The same by the indexes of which many producers at once want to be the first.
        assert (
            at_once([[n] for n in range(8)], lambda n: storage.backfills.save(str(n), {"requested_at": AT}))
            == []
        )
        assert sorted(storage.pages.collection.index_information()) == ["_id_", "fetched_at_1", "page_1"]
        assert storage.pages.counts(wanted) == wanted
        # What is fetched anew while the index is there is not old any more.
        put(storage, other.page(1), 1, at=later)
        assert storage.pages.counts([later]) == {later: {other: Count(0b10, 1)}}

    def test_of_a_split_cell_its_first_page_and_both_halves(self, storage: Storage) -> None:
        put(storage, KEY, 501)
        put(storage, CELL.page(2), 501)  # of an earlier time, when the cell was smaller
        first, second = CELL.halves()
        put(storage, first.page(1), 3)
        put(storage, first.page(3), 3)
        coverage = CoverageIndex.read(storage, [None])[None].coverage(CELL)
        assert coverage.as_dict() == {
            "cells": 1,
            "opened": 1,
            "pages_planned": 1 + 3 + 1,
            "pages_stored": 1 + 2,
            "missing": 2,
            "quarantined": 0,
        }
        put(storage, first.page(2), 3)
        put(storage, second.page(1), 1)
        assert CoverageIndex.read(storage, [None])[None].coverage(CELL).missing == 0


class TestRest:
    def test_a_page_is_fresh_or_not(self, storage: Storage) -> None:
        assert not storage.pages.is_fresh(KEY, None)
        put(storage, KEY, 7)
        assert storage.pages.is_fresh(KEY, None)
        assert storage.pages.is_fresh(KEY, AT)
        assert not storage.pages.is_fresh(KEY, AT + timedelta(milliseconds=1))

    def test_requests_are_remembered_the_latest_first(self, storage: Storage) -> None:
        for name, offset in (("a", 0), ("b", 1), ("a", 2)):
            storage.backfills.save(name, {"requested_at": AT + timedelta(seconds=offset)})
        assert [request["_id"] for request in storage.backfills.all()] == ["a", "b"]

    def test_names_of_genres_get_old(self, storage: Storage) -> None:
        storage.genres.save({18: "Drama", 35: "Comedy"}, AT)
        storage.genres.save({18: "Dramas"}, AT + timedelta(days=1))
        assert list(storage.genres.names().items()) == [(35, "Comedy"), (18, "Dramas")]
        assert storage.genres.names(AT + timedelta(days=1)) == {18: "Dramas"}

    def test_what_is_due_is_claimed_once_in_its_period(self, storage: Storage) -> None:
        hour = timedelta(hours=1)
        assert storage.schedule.claim("sweep", hour, AT)
        assert not storage.schedule.claim("sweep", hour, AT)
        assert not storage.schedule.claim("sweep", hour, AT + timedelta(minutes=59))
        assert storage.schedule.claim("refresh", hour, AT)
        assert storage.schedule.claim("sweep", hour, AT + hour)

    def test_of_eight_that_claim_at_once_one_is_told_so(self, storage: Storage) -> None:
        for day in range(5):
            told: list[bool] = []

            def claim(at: datetime, told: list[bool] = told) -> None:
                told.append(storage.schedule.claim("sweep", timedelta(hours=1), at))

            assert at_once([[AT + timedelta(days=day)]] * 8, claim) == []
            assert sorted(told) == [False] * 7 + [True]

    def test_a_server_that_is_away_is_not_now(self) -> None:
        with connect("mongodb://127.0.0.1:1/reelhaul", patience_ms=100) as client:
            away = Storage(client.get_default_database())
            for call in (
                away.ping,
                lambda: away.fresh(KEY, None),
                lambda: put(away, KEY),
                lambda: list(away.missing([CELL], None)),
                lambda: away.quarantine(KEY, Rejected("no", Response(0, b"")), AT),
                away.count_movies,
                lambda: list(away.each_movie()),
            ):
                with pytest.raises(MongoUnavailable, match=r"\AMongoDB: [^\n]*\Z"):
                    call()

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param({"errorCode": 14031}, id="full"),  # OutOfDiskSpace
            pytest.param({"writeConcernError": {"code": 64, "errmsg": "journal"}}, id="journal"),
        ],
    )
    def test_a_server_that_cannot_write_is_not_now(self, tmp_path: Path, error: dict[str, Any]) -> None:
        """As on a full disk: nothing is wrong with what was to be written."""
        client: pymongo.MongoClient[dict[str, Any]]
        with (
            ChaosMongo(folder=tmp_path) as server,
            pymongo.MongoClient(server.url, appname="reelhaul", tz_aware=True, tzinfo=UTC) as client,
        ):
            storage = Storage(client["reelhaul"])
            server.fail("insert", "update", **error)
            with pytest.raises(MongoUnavailable):
                storage.pages.save(KEY, page_of([{"id": 603}]))
            with pytest.raises(MongoUnavailable):
                storage.movies.save_page("popular:1", page_of([{"id": 604}]))
            with pytest.raises(MongoUnavailable):
                storage.failures.add(KEY, Rejected("no", Response(0, b"")), AT)
            server.heal()
            storage.pages.save(KEY, page_of([{"id": 603}]))
            assert storage.pages.is_fresh(KEY, None)


def just_before(
    monkeypatch: pytest.MonkeyPatch, collection: Any, method: str, act: Callable[[], object]
) -> None:
    """Somebody else does `act` right before the first call of the collection's method."""
    original, acts = getattr(collection, method), [act]

    def call(*arguments: Any, **options: Any) -> Any:
        if acts:
            acts.pop()()
        return original(*arguments, **options)

    monkeypatch.setattr(collection, method, call)


def at_once(tracks: Sequence[Sequence[Any]], work: Any) -> list[BaseException]:
    """Do `work` on each track's entries, all tracks beginning together; returns what went wrong."""
    together, failed = threading.Barrier(len(tracks)), list[BaseException]()

    def follow(track: Sequence[Any]) -> None:
        try:
            together.wait(30)
            for entry in track:
                work(entry)
        except BaseException as error:  # noqa: BLE001 -- it is told to the test
            failed.append(error)

    threads = [threading.Thread(target=follow, args=(track,)) for track in tracks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return failed
