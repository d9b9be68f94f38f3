"""Single movies in a real store: their details, and movies that are gone."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

from tests.support.pages import page_of
from worker.keys import MovieKey, PageKey
from worker.records import Details, Page
from worker.storage.database import Storage
from worker.storage.mongo import EPOCH
from worker.storage.movies import PARTS

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = MovieKey(603)
HOUR = timedelta(hours=1)


def details(at: datetime = AT, **fields: Any) -> Details:
    movie = {
        "id": 603,
        "title": "The Matrix",
        "release_date": "1999-03-31",
        "genres": [{"id": 28, "name": "A"}],
    }
    parts = tuple(name for name in fields if name in PARTS)
    return Details({**movie, **fields}, at, json.dumps(fields).encode(), parts)


def page(*ids: int, at: datetime = AT) -> Page:
    return page_of([{"id": id_, "genre_ids": [28]} for id_ in ids], at=at)


class TestDetails:
    def test_details_are_kept_raw_beside_their_list_item(self, storage: Storage) -> None:
        answer = details(runtime=136, credits={"cast": []}, tagline="", odd={"a.b": 1})
        storage.movies.save_details(KEY, answer, whole=True)
        [movie] = storage.movies.each()
        assert movie["genre_ids"] == [28]
        assert (movie["odd"], movie["_meta"]["page"]) == ({"a.b": 1}, "movie:603")
        assert not {"runtime", "credits", "tagline", "genres"} & set(movie)
        stored = storage.movies.details.find_one({"_id": 603})
        assert stored is not None
        assert {name: value for name, value in stored.items() if name not in ("_id", "_meta")} == answer.movie
        assert storage.movies.stored_parts(603) == {"credits"}
        assert storage.movies.stored_parts(604) is None

    def test_details_are_kept_if_asked_for_or_kept_before(self, storage: Storage) -> None:
        storage.movies.save_details(KEY, details(runtime=136), whole=False)
        assert storage.movies.details.find_one({"_id": 603}) is None
        storage.movies.save_details(KEY, details(AT + HOUR, runtime=137), whole=True)
        storage.movies.save_details(KEY, details(AT + 2 * HOUR, runtime=138), whole=False)
        stored = storage.movies.details.find_one({"_id": 603})
        assert stored is not None
        assert stored["runtime"] == 138

    def test_movies_without_details_by_age_and_parts(self, storage: Storage) -> None:
        storage.pages.save(PageKey(28, "1999", 1), page(601, 602, 603))
        storage.movies.save_details(KEY, details(credits={}), whole=True)

        def without(fresh_after: datetime, *parts: str) -> set[int]:
            return set(storage.movies.without_details(fresh_after, parts, AT + HOUR))

        assert without(AT) == {601, 602}
        assert without(AT, "credits") == {601, 602}
        assert without(AT, "keywords") == {601, 602, 603}
        assert without(AT + HOUR) == {601, 602, 603}
        storage.pages.save(PageKey(28, "1999", 2), page(604, at=AT + 2 * HOUR))
        assert without(AT) == {601, 602}  # 604 was not known yet
        assert storage.movies.count_known_by(AT + HOUR) == 3
        storage.movies.tombstone([601], AT + HOUR)
        assert without(AT) == {602}
        assert storage.movies.count_known_by(AT + HOUR) == 2

    def test_a_movie_is_as_old_as_its_details(self, storage: Storage) -> None:
        storage.pages.save(PageKey(28, "1999", 1), page(601, 603))
        storage.movies.save_details(KEY, details(), whole=True)
        storage.pages.save(PageKey(28, "1999", 1), page(601, 603, at=AT + HOUR))
        assert storage.movies.times([601, 603, 604]) == {601: AT + HOUR, 603: AT}
        assert storage.movies.has_details(603, AT, ())
        assert not storage.movies.has_details(603, AT + HOUR, ())
        assert not storage.movies.has_details(603, AT, ["credits"])

    def test_a_part_that_tmdb_leaves_out_is_not_asked_for_again(self, storage: Storage) -> None:
        answer = replace(details(), parts=("videos", "watch/providers"))
        storage.movies.save_details(KEY, answer, whole=True)
        assert storage.movies.has_details(603, AT, ["watch/providers"])
        assert list(storage.movies.without_details(AT, ["videos", "watch/providers"], AT)) == []
        assert list(storage.movies.without_details(AT, ["videos", "credits"], AT)) == [603]
        assert storage.movies.stored_parts(603) == {"videos", "watch/providers"}

    def test_details_without_their_movie_are_not_done(self, storage: Storage) -> None:
        storage.movies.save_details(KEY, details(), whole=True)
        storage.movies.collection.delete_one({"_id": 603})
        assert not storage.movies.has_details(603, None, ())

    def test_odd_documents_stop_nothing(self, storage: Storage) -> None:
        times = {"first_seen": AT, "fetched_at": AT}
        odd: list[dict[str, Any]] = [
            {"_id": 1},
            {"_id": 2, "_meta": {}},
            {"_id": -3, "_meta": {**times, "page": "x"}},
            {"_id": 4.5, "_meta": times},
            {"_id": "five", "_meta": times},
            {"_id": 6, "_meta": {**times, "page": 7}},
        ]
        storage.movies.collection.insert_many(odd)
        storage.movies.details.insert_many(odd)
        assert storage.movies.times([1, 2, 6]) == {1: EPOCH, 2: EPOCH, 6: AT}
        assert list(storage.movies.without_details(AT + HOUR, (), AT)) == [6]
        assert storage.movies.fetched_before(AT + HOUR) == [(6, "7")]
        assert storage.movies.details_fetched_before(AT + HOUR) == [6]


class TestGone:
    def test_a_time_from_the_future_does_not_keep_a_movie_from_going(self, storage: Storage) -> None:
        storage.pages.save(PageKey(28, "1999", 1), page(603))
        future = datetime.now(UTC) + timedelta(days=400)
        storage.movies.collection.update_one({}, {"$set": {"_meta.gone_at": future}})
        storage.movies.tombstone([603], AT + HOUR)
        assert storage.movies.times([603]) == {603: AT + HOUR}

    def test_a_gone_movie_returns_with_a_later_response_in_any_order(self, storage: Storage) -> None:
        cell = PageKey(28, "1999", 1)
        events: dict[str, Callable[[], object]] = {
            "gone": lambda: storage.movies.tombstone([603], AT + HOUR),
            "older": lambda: storage.pages.save(cell, page(603, at=AT + HOUR / 2)),
            "newer": lambda: storage.movies.save_details(KEY, details(AT + 2 * HOUR), whole=False),
        }
        for order in permutations(events):
            storage.movies.collection.delete_many({})
            storage.pages.save(cell, page(603))
            for name in order:
                events[name]()
            [movie] = storage.movies.each()
            assert "gone_at" not in movie["_meta"], order
            assert movie["_meta"]["fetched_at"] == AT + 2 * HOUR

    def test_a_gone_movie_is_kept_but_not_listed(self, storage: Storage) -> None:
        storage.pages.save(PageKey(28, "1999", 1), page(603, 604))
        assert storage.movies.tombstone([603, 999], AT + HOUR) == 1
        assert storage.movies.tombstone([603], AT + 2 * HOUR) == 0  # it was gone already
        storage.pages.save(PageKey(35, "1999", 1), page(603, 604, at=AT + HOUR / 2))
        assert [movie["_id"] for movie in storage.movies.each()] == [604]
        assert storage.movies.count() == 2
        assert storage.movies.times([603, 604, 605]) == {603: AT + 2 * HOUR, 604: AT + HOUR / 2}
