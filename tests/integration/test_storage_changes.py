"""The change feed in a real store: which movies its stored pages ask for, and which days were read."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pytest

from tests.support.pages import page_of
from worker.errors import Rejected
from worker.keys import ChangesKey, Fetch, MovieKey, PageKey
from worker.records import Details, Page
from worker.storage.changes import Scope
from worker.storage.database import Storage

DAY = "2026-05-01"
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OVER = datetime(2026, 5, 2, tzinfo=UTC)
KEY = ChangesKey(DAY, 1)
CELL_PAGE = PageKey(28, "1999", 1)


def listed(*ids: int, at: datetime = AT, pages: int = 1) -> Page:
    return Page(1, [{"id": id_, "adult": None} for id_ in ids], pages, len(ids), at, f"{at}", b"")


def store(storage: Storage, *ids: int, at: datetime) -> None:
    storage.pages.save(CELL_PAGE, page_of([{"id": id_, "genre_ids": [28]} for id_ in ids], at=at))


def lacking(storage: Storage, *, again: datetime | None = None, new: bool = True) -> dict[int, datetime]:
    return storage.changes.changed(Scope((DAY,), again, new)).lacking


def test_a_movie_is_needed_since_it_was_first_listed_in_any_order_of_delivery(storage: Storage) -> None:
    saves: list[Callable[[], None]] = [
        lambda: storage.changes.save(KEY, listed(1)),
        lambda: storage.changes.save(KEY, listed(1, 2, at=AT + HOUR)),
        lambda: storage.changes.save(ChangesKey(DAY, 2), listed(1, at=AT + 2 * HOUR)),
    ]
    for order in permutations(saves):
        storage.pages.collection.delete_many({})
        for save in (*order, *order):
            save()
        assert lacking(storage) == {1: AT, 2: AT + HOUR}
        record = storage.pages.collection.find_one({"_id": KEY.id})
        assert record is not None
        assert (record["fetched_at"], record["movie_ids"]) == (AT + HOUR, [1, 2])


def test_only_movies_not_fetched_since_are_lacking_and_only_stored_ones_unless_new(storage: Storage) -> None:
    store(storage, 1, at=AT - HOUR)
    store(storage, 2, at=AT + HOUR)
    storage.changes.save(KEY, listed(1, 2, 3))
    assert lacking(storage) == {1: AT, 3: AT}
    assert lacking(storage, new=False) == {1: AT}
    assert storage.changes.changed(Scope((DAY,), None, new=False)) == (2, {1: AT}, 0)
    assert storage.changes.changed(Scope((DAY,), None, new=True), [2, 3]) == (2, {3: AT}, 0)
    # Asked for again: whatever was fetched before that.
    assert lacking(storage, again=AT + 2 * HOUR, new=False) == dict.fromkeys((1, 2), AT + 2 * HOUR)


def test_once_the_day_is_over_a_movie_must_be_fetched_after_it(storage: Storage) -> None:
    store(storage, 1, at=AT + HOUR)
    storage.changes.save(KEY, listed(1))
    assert lacking(storage) == {}
    storage.changes.save(KEY, listed(1, at=OVER))
    assert lacking(storage) == {1: OVER}
    assert lacking(storage, again=OVER + HOUR) == {1: OVER}
    store(storage, 1, at=OVER)
    assert lacking(storage) == {}


def test_old_details_make_a_movie_lacking(storage: Storage) -> None:
    movie = {"id": 1, "genres": [{"id": 28, "name": "Action"}]}
    storage.movies.save_details(MovieKey(1), Details(movie, AT - HOUR, b""), whole=True)
    store(storage, 1, at=AT + HOUR)
    storage.changes.save(KEY, listed(1))
    assert lacking(storage) == {1: AT}


def test_what_is_gone_or_in_quarantine_since_is_not_lacking(storage: Storage) -> None:
    store(storage, 1, at=AT - HOUR)
    storage.changes.save(KEY, listed(1, 2, 3))
    storage.movies.tombstone([1], AT)
    storage.pages.save_gone(MovieKey(2), AT)
    storage.failures.add(Fetch(MovieKey(3)), Rejected("no"), AT)
    assert storage.changes.changed(Scope((DAY,), None, new=True)) == (3, {}, 1)
    storage.changes.save(KEY, listed(1, 2, 3, at=OVER))
    assert lacking(storage) == dict.fromkeys((1, 2, 3), OVER)


@pytest.mark.parametrize(
    ("pages", "unread"),
    [
        ([], date(2026, 5, 3)),
        ([(KEY, AT, 1)], date(2026, 5, 1)),
        ([(KEY, OVER, 1)], date(2026, 5, 2)),
        ([(KEY, OVER, 2)], date(2026, 5, 1)),
        ([(KEY, OVER, 2), (ChangesKey(DAY, 2), AT, 2)], date(2026, 5, 1)),
        ([(KEY, OVER, 2), (ChangesKey(DAY, 2), OVER, 2)], date(2026, 5, 2)),
        ([(KEY, OVER, 1), (ChangesKey("2026-05-03", 1), OVER + 2 * 24 * HOUR, 1)], date(2026, 5, 2)),
        ([(ChangesKey(DAY, 2), OVER, 2)], date(2026, 5, 1)),
    ],
)
def test_the_first_unread_day(
    storage: Storage, pages: list[tuple[ChangesKey, datetime, int]], unread: date
) -> None:
    for key, at, total in pages:
        storage.changes.save(key, listed(1, at=at, pages=total))
    assert storage.changes.first_unread(date(2026, 5, 3), date(2026, 5, 4)) == unread


def test_a_day_of_more_pages_than_tmdb_shows_is_read_when_those_are(storage: Storage) -> None:
    for number in range(1, 501):
        storage.pages.collection.insert_one(
            {"_id": f"changes:{DAY}:{number}", "total_pages": 501, "fetched_at": OVER}
        )
    assert storage.changes.first_unread(date(2026, 5, 1), date(2026, 5, 3)) == date(2026, 5, 2)


@pytest.mark.parametrize(
    "odd", [{"movie_ids": ["x"]}, {"movie_ids": 5}, {"first_listed": [1]}, {"first_listed": {"x": AT}}]
)
def test_an_odd_record_is_left_out(storage: Storage, odd: dict[str, object]) -> None:
    storage.pages.collection.insert_one({"_id": KEY.id, "total_pages": 1, "fetched_at": AT, **odd})
    storage.changes.save(ChangesKey(DAY, 2), listed(1))
    assert lacking(storage) == {1: AT}


def test_pages_of_forgotten_days_are_deleted_and_no_others(storage: Storage) -> None:
    store(storage, 1, at=AT)
    for day in ("2026-04-30", DAY, "2026-05-02"):
        storage.changes.save(ChangesKey(day, 1), listed(1))
    storage.changes.forget(date(2026, 5, 1))
    assert sorted(record["_id"] for record in storage.pages.collection.find()) == [
        CELL_PAGE.id,
        "changes:2026-05-01:1",
        "changes:2026-05-02:1",
    ]
