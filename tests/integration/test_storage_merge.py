"""Merging on a real server: the order of deliveries does not matter, and nothing storable is altered."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.pages import AT, in_threads, just_before, page_of, put
from worker.errors import Unstorable
from worker.keys import Fetch, PageKey
from worker.records import Page, Response
from worker.storage.database import Storage
from worker.storage.failures import KEPT_BODY
from worker.storage.merge import Saved

KEY = PageKey(18, "1999", 1)
#: Examples share the test's database; each of them empties it first.
ON_ONE_DATABASE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Delivery = tuple[PageKey, Page]

TIMES = [AT + timedelta(milliseconds=offset) for offset in (0, 1, 60_000)]
KEYS = [KEY, PageKey(18, "1999", 2), PageKey(35, "1999", 1)]
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


def contents(storage: Storage) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All movies and all page records, by id."""
    movies, pages = storage.movies.collection, storage.pages.collection
    return list(movies.find().sort("_id", 1)), list(pages.find().sort("_id", 1))


def empty(storage: Storage) -> None:
    for collection in (storage.movies.collection, storage.pages.collection):
        collection.delete_many({})


class TestMerging:
    @ON_ONE_DATABASE
    @given(st.data())
    def test_order_and_number_of_deliveries_do_not_matter(
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
    def test_the_newest_version_of_each_is_left(self, storage: Storage, deliveries: list[Delivery]) -> None:
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
        assert {record["_id"]: record["fetched_at"] for record in pages} == {
            key.id: max(page.fetched_at for other, page in deliveries if other == key)
            for key, _ in deliveries
        }

    def test_eight_threads_leave_the_same_documents(self, storage: Storage) -> None:
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
            tracks = [deliveries[n:] + deliveries[:n] for n in range(8)]
            assert in_threads(tracks, lambda delivery: storage.pages.save(*delivery)) == []
            assert contents(storage) == once

    def test_concurrent_saves_count_each_movie_once(self, storage: Storage) -> None:
        def movies(word: str) -> list[dict[str, Any]]:
            return [{"id": id_, "title": f"{id_} {word}"} for id_ in range(40)]

        saved: list[Saved] = []
        for at, word in ((AT, "new"), (TIMES[-1], "changed")):
            saved.clear()
            # Each starts elsewhere in the list, so that they meet.
            deliveries = [
                (KEY, page_of(movies(word)[n * 5 :] + movies(word)[: n * 5], at=at)) for n in range(8)
            ]
            errors = in_threads([[d] for d in deliveries], lambda d: saved.append(storage.pages.save(*d)))
            assert errors == []
            counted = sum(one.inserted for one in saved), sum(one.changed for one in saved)
            assert counted == ((40, 0) if word == "new" else (0, 40))

    def test_older_never_replaces_newer(self, storage: Storage) -> None:
        newer, older = AT, AT - timedelta(milliseconds=1)
        storage.pages.save(KEY, page_of([{"id": 603, "title": "new", "more": 1}], total_pages=3, at=newer))
        saved = storage.pages.save(KEY, page_of([{"id": 603, "title": "old"}], total_pages=2, at=older))
        assert saved == (0, 0)
        [movie], [record] = contents(storage)
        assert (movie["title"], movie["more"]) == ("new", 1)
        assert (movie["_meta"]["first_seen"], movie["_meta"]["fetched_at"]) == (older, newer)
        assert (record["total_pages"], record["fetched_at"]) == (3, newer)

    @pytest.mark.parametrize("second", [1, -1], ids=["a newer one", "an older one"])
    def test_a_newer_movie_written_meanwhile_is_kept(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, second: int
    ) -> None:
        """The save that is overtaken changes the movie, or only its first_seen."""
        first, overtaken, newest = (
            (KEY, page_of([{"id": 603, "title": title}], at=AT + timedelta(seconds=offset)))
            for title, offset in (("first", 0), ("overtaken", second), ("newest", 2))
        )
        storage.pages.save(*first)
        just_before(monkeypatch, storage.movies.collection, "bulk_write", lambda: storage.pages.save(*newest))
        storage.pages.save(*overtaken)
        [movie], _ = contents(storage)
        assert movie["title"] == "newest"
        assert movie["_meta"]["fetched_at"] == newest[1].fetched_at
        assert movie["_meta"]["first_seen"] == min(first[1].fetched_at, overtaken[1].fetched_at)

    def test_a_newer_page_record_written_meanwhile_is_kept(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(storage, KEY, 1, at=AT)
        newest = AT + timedelta(seconds=2)
        pages = storage.pages.collection
        just_before(monkeypatch, pages, "update_one", lambda: put(storage, KEY, 3, at=newest))
        put(storage, KEY, 2, at=AT + timedelta(seconds=1))
        _, [record] = contents(storage)
        assert (record["total_pages"], record["fetched_at"]) == (3, newest)

    def test_a_newer_version_replaces_all_fields(self, storage: Storage) -> None:
        storage.pages.save(KEY, page_of([{"id": 603, "title": "old", "dropped": 1}]))
        later = AT + timedelta(days=1)
        assert storage.pages.save(KEY, page_of([{"id": 603, "title": "new"}], at=later)) == (0, 1)
        [movie], _ = contents(storage)
        assert set(movie) == {"_id", "id", "title", "_meta"}
        assert (movie["_meta"]["first_seen"], movie["_meta"]["fetched_at"]) == (AT, later)

    def test_an_unchanged_movie_only_gets_a_new_fetched_at(self, storage: Storage) -> None:
        movie = {"id": 603, "title": "same"}
        assert storage.pages.save(KEY, page_of([movie])) == (1, 0)
        assert storage.pages.save(KEY, page_of([movie], at=AT + timedelta(days=1))) == (0, 0)
        [stored], _ = contents(storage)
        assert stored["_meta"]["fetched_at"] == AT + timedelta(days=1)

    def test_a_page_record_keeps_order_and_duplicates(self, storage: Storage) -> None:
        page = page_of([{"id": id_} for id_ in (7, 3, 7, 5)], total_pages=9)
        assert storage.pages.save(KEY, page).inserted == 3
        _, [record] = contents(storage)
        assert record == {
            "_id": "18:1999:1",
            "genre_id": 18,
            "window": "1999",
            "page": 1,
            "total_pages": 9,
            "total_results": 4,
            "movie_ids": [7, 3, 7, 5],
            "fetched_at": AT,
            "sha256": page.sha256,
            "recheck": 0,
        }


class TestStorable:
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
    def test_a_movie_is_stored_field_by_field_in_order(
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
        with pytest.raises(Unstorable) as raised:
            storage.pages.save(KEY, page)
        assert "\n" not in str(raised.value)
        assert raised.value.response == Response(200, page.body)
        assert not storage.pages.is_fresh(KEY, None)
        storage.failures.add(Fetch(KEY), raised.value, AT)
        [failure] = storage.failures.collection.find()
        assert (failure["_id"], failure["class"], failure["status"]) == (KEY.id, "unstorable", 200)
        assert failure["body"] == page.body[:KEPT_BODY]

    def test_totals_beyond_64_bits_are_unstorable(self, storage: Storage) -> None:
        with pytest.raises(Unstorable):
            storage.pages.save(KEY, page_of(total_pages=2**63))
