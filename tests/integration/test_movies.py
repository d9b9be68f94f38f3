"""Single movies in a real store: the to-do list, details, what is gone, what a shorter cell leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from worker.errors import Unstorable
from worker.keys import Cell, MovieKey, PageKey
from worker.records import Details, Page
from worker.storage.database import Storage, Wanted, list_item

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = MovieKey(603)
HOUR = timedelta(hours=1)


@pytest.fixture
def stores(mongo_url: str) -> Iterator[tuple[Storage, Storage]]:
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongo_url, tz_aware=True, tzinfo=UTC) as client:
        database: Database[dict[str, Any]] = client.get_default_database()
        yield Storage(database), Storage(database)


@pytest.fixture
def storage(stores: tuple[Storage, Storage]) -> Storage:
    return stores[0]


@pytest.fixture
def movies(stores: tuple[Storage, Storage]) -> Storage:
    return stores[1]


def answer(at: datetime = AT, **fields: Any) -> Details:
    movie = {
        "id": 603,
        "title": "The Matrix",
        "release_date": "1999-03-31",
        "genres": [{"id": 28, "name": "A"}],
    }
    return Details({**movie, **fields}, at, json.dumps(fields).encode())


def page(*ids: int, at: datetime = AT, total_pages: int = 1, number: int = 1) -> Page:
    results = [{"id": id_, "genre_ids": [28]} for id_ in ids]
    return Page(number, results, total_pages, len(ids), at, f"{at}{ids}", b"")


class TestWanted:
    def test_a_row_is_there_until_it_is_done(self, storage: Storage) -> None:
        assert storage.movie_requests.get(603) is None
        assert storage.movie_requests.add([603, 604], AT) == 2
        assert storage.movie_requests.get(603) == Wanted(AT, details=False, append=())
        assert (
            storage.movie_requests.count(),
            {key.movie_id for key in storage.movie_requests.first(9)},
        ) == (2, {603, 604})
        storage.movie_requests.fulfil(KEY, Wanted(AT, details=False, append=()))
        assert storage.movie_requests.get(603) is None
        assert storage.movie_requests.first(9) == [MovieKey(604)]

    def test_wanting_twice_adds_up_and_never_takes_back(self, storage: Storage) -> None:
        storage.movie_requests.add([603], AT, details=True, append=["credits"])
        storage.movie_requests.add([603], AT - HOUR, append=["keywords"])
        assert storage.movie_requests.get(603) == Wanted(AT, details=True, append=("credits", "keywords"))

    def test_what_is_wanted_meanwhile_is_not_done_with_the_rest(self, storage: Storage) -> None:
        storage.movie_requests.add([603], AT)
        row = storage.movie_requests.get(603)
        assert row is not None
        storage.movie_requests.add([603], AT + HOUR)
        storage.movie_requests.fulfil(KEY, row)
        assert storage.movie_requests.get(603) == Wanted(AT + HOUR, details=False, append=())
        storage.movie_requests.remove(KEY)
        assert storage.movie_requests.get(603) is None


class TestDetails:
    def test_they_are_kept_raw_with_a_list_item_that_has_genre_ids(self, storage: Storage) -> None:
        storage.movies.save_details(
            KEY, answer(runtime=136, credits={"cast": []}, tagline="", odd={"a.b": 1}), details=True
        )
        [movie] = storage.movies.each()
        assert movie["genre_ids"] == [28]
        assert (movie["odd"], movie["_meta"]["page"]) == ({"a.b": 1}, "movie:603")
        assert not {"runtime", "credits", "tagline", "genres"} & set(movie)
        assert storage.movies.stored_parts(603) == {"credits"}
        assert storage.movies.stored_parts(604) is None

    def test_of_a_movie_that_nobody_asked_for_nothing_is_kept(self, storage: Storage) -> None:
        assert storage.movies.save_details(KEY, answer(), keep=False) == (0, 0)
        storage.backfills.save("a", {"genres": [{"id": 18}], "years": [1999], "requested_at": AT})
        assert storage.movies.save_details(KEY, answer(), keep=False) == (0, 0)
        storage.backfills.save("b", {"genres": [{"id": 0}], "years": [1999], "requested_at": AT})
        assert storage.movies.save_details(KEY, answer(), keep=False) == (1, 0)
        assert storage.movies.save_details(
            KEY, answer(AT + HOUR, release_date="1950-01-01"), details=False
        ) == (0, 1)

    def test_a_field_of_ours_is_unstorable(self, storage: Storage) -> None:
        with pytest.raises(Unstorable):
            storage.movies.save_details(KEY, answer(_meta={}), keep=True)

    def test_lacking_details_goes_by_age_and_parts(self, storage: Storage) -> None:
        storage.pages.save(PageKey(28, "1999", 1), page(601, 602, 603))
        storage.movies.save_details(KEY, answer(credits={}), keep=True)
        assert set(storage.movies.without_details(AT)) == {601, 602}
        assert set(storage.movies.without_details(AT, ["credits"])) == {601, 602}
        assert set(storage.movies.without_details(AT, ["keywords"])) == {601, 602, 603}
        assert set(storage.movies.without_details(AT + HOUR)) == {601, 602, 603}
        storage.movies.tombstone([601], AT + HOUR)
        assert set(storage.movies.without_details(AT)) == {602}

    def test_a_list_item_keeps_unknown_fields(self) -> None:
        details = {"id": 1, "softcore": False, "new": 1, "budget": 5, "genres": [], "watch/providers": {}}
        assert list_item(details) == {"id": 1, "softcore": False, "new": 1, "genre_ids": []}


class TestGone:
    def test_it_falls_to_a_later_answer_in_any_order(self, storage: Storage) -> None:
        cell = PageKey(28, "1999", 1)
        storage.pages.save(cell, page(603))
        events: dict[str, Callable[[], object]] = {
            "gone": lambda: storage.movies.tombstone([603], AT + HOUR),
            "older": lambda: storage.pages.save(cell, page(603, at=AT + HOUR / 2)),
            "newer": lambda: storage.movies.save_details(KEY, answer(AT + 2 * HOUR), keep=False),
        }
        for order in permutations(events):
            storage.movies.collection.delete_many({})
            storage.pages.save(cell, page(603))
            for name in order:
                events[name]()
            [movie] = storage.movies.each()
            assert "gone_at" not in movie["_meta"], order
            assert movie["_meta"]["fetched_at"] == AT + 2 * HOUR

    def test_until_then_it_stays_and_the_movie_is_no_longer_counted_as_there(self, storage: Storage) -> None:
        storage.pages.save(PageKey(28, "1999", 1), page(603, 604))
        assert storage.movies.tombstone([603, 999], AT + HOUR) == 1
        assert storage.movies.tombstone([603], AT + 2 * HOUR) == 0  # it was gone already
        storage.pages.save(PageKey(35, "1999", 1), page(603, 604, at=AT + HOUR / 2))
        assert [movie["_id"] for movie in storage.movies.each()] == [604]
        assert storage.movies.collection.count_documents({}) == 2
        assert storage.movies.not_fetched_since([603, 604, 605], AT + HOUR) == {604, 605}


class TestCursor:
    def test_it_never_goes_back(self, storage: Storage) -> None:
        assert storage.change_feed.read_to() is None
        for moment in (AT, AT + HOUR, AT - HOUR):
            storage.change_feed.set_read_to(moment)
        assert storage.change_feed.read_to() == AT + HOUR

    def test_demands_are_remembered_by_their_moment(self, storage: Storage) -> None:
        storage.change_feed.mark_handled([1, 2], AT)
        storage.change_feed.mark_handled([1], AT - HOUR)
        assert storage.change_feed.not_handled([1, 2, 3], AT) == {3}
        assert storage.change_feed.not_handled([1, 2, 3], AT + HOUR) == {1, 2, 3}
        storage.change_feed.forget_handled(AT + HOUR)
        assert storage.change_feed.not_handled([1, 2, 3], AT) == {1, 2, 3}


class TestTrim:
    CELL = Cell(28, "1999")

    def test_marks_beyond_the_new_end_go_unless_they_are_newer(self, storage: Storage) -> None:
        for number in range(1, 6):
            at = AT + 2 * HOUR if number == 4 else AT
            storage.pages.save(self.CELL.page(number), page(number, at=at, total_pages=5, number=number))
        assert storage.pages.drop_beyond(self.CELL, 2, AT + HOUR) == 2
        assert {mark["page"] for mark in storage.pages.collection.find()} == {1, 2, 4}
        assert storage.movies.collection.count_documents({}) == 5
        assert storage.pages.drop_beyond(Cell(18, "1999"), 0, AT) == 0  # nothing is known of it

    def test_halves_of_a_cell_that_is_whole_again_go_with_all_their_pages(self, storage: Storage) -> None:
        storage.pages.save(self.CELL.page(1), page(1, total_pages=501))
        for half in self.CELL.halves():
            for number in (1, 2):
                storage.pages.save(half.page(number), page(number, total_pages=2, number=number))
        assert storage.pages.drop_beyond(self.CELL, 500, AT + HOUR) == 4
        assert [mark["_id"] for mark in storage.pages.collection.find()] == ["28:1999:1"]
