"""Reading for analysts, from a real store: filters, order, errors, and the same count as `reelhaul fresh`."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pymongo
import pytest
from dns.resolver import NXDOMAIN

import reelhaul
from producer.coverage import CoverageIndex
from producer.plan import plan_cells
from producer.requests.backfills import Backfill
from reelhaul import freshness
from reelhaul.source import Source
from sandbox.embedded import free_port
from tests.support.pages import page_of, put
from worker.errors import Rejected
from worker.keys import Cell, Fetch, PageKey
from worker.records import Response
from worker.storage.database import Storage

NOW = datetime.now(UTC).replace(microsecond=0)
DRAMA, ACTION = 18, 28


def movie(id_: int, genres: Sequence[int], released: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "title": f"Movie {id_}", "genre_ids": list(genres), "release_date": released, **more}


MOVIES = [
    movie(9, [DRAMA], "1999-12-31", vote_average=7),
    movie(3, [ACTION, DRAMA], "2000-01-01", vote_average=7.5),
    movie(5, [ACTION], "2001-06-01"),
    movie(7, [], ""),
    movie(4, [DRAMA], "1999-01-01"),
]


@pytest.fixture
def filled(storage: Storage) -> Storage:
    """Five movies, of which 4 is gone, and the names of two genres."""
    storage.genres.save({DRAMA: "Drama", ACTION: "Action"}, NOW)
    storage.pages.save(PageKey(DRAMA, "1999", 1), page_of(MOVIES, at=NOW - timedelta(hours=1)))
    storage.movies.tombstone([4], NOW)
    return storage


def ids(table: Any) -> list[int]:
    found: list[int] = table["id"].to_pylist()
    return found


@pytest.mark.usefixtures("filled")
class TestMovies:
    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, [3, 5, 7, 9]),
            ({"genres": ["drama"]}, [3, 9]),
            ({"genres": "Action"}, [3, 5]),
            ({"genres": [28, "Drama"]}, [3, 5, 9]),
            ({"genres": 18, "years": 2000}, [3]),
            ({"years": range(1999, 2001)}, [3, 9]),
            ({"years": [1999, 2001]}, [5, 9]),
            ({"since": NOW - timedelta(hours=2)}, [3, 5, 7, 9]),
            ({"since": NOW}, []),
            ({"since": NOW.isoformat()}, []),
            ({"since": (NOW - timedelta(days=1)).date()}, [3, 5, 7, 9]),
            ({"since": f"{NOW - timedelta(days=1):%Y-%m-%d}"}, [3, 5, 7, 9]),
            ({"since": NOW.date() + timedelta(days=1)}, []),
        ],
    )
    def test_filters(self, mongo_url: str, filters: dict[str, Any], expected: list[int]) -> None:
        table = reelhaul.movies(mongo_url, **filters)
        assert ids(table) == expected
        assert [id_ for batch in reelhaul.iter_movies(mongo_url, **filters) for id_ in ids(batch)] == expected

    def test_a_stored_genre_without_a_name_is_selected_by_its_id(
        self, mongo_url: str, filled: Storage
    ) -> None:
        filled.movies.collection.update_one({"_id": 7}, {"$set": {"genre_ids": [10769]}})
        assert ids(reelhaul.movies(mongo_url, genres=[10769])) == [7]

    def test_rows(self, mongo_url: str) -> None:
        columns = ["id", "genres", "vote_average", "release_date"]
        assert reelhaul.movies(mongo_url, columns=columns, years=2000).to_pylist() == [
            {
                "id": 3,
                "genres": ["Action", "Drama"],
                "vote_average": 7.5,
                "release_date": date(2000, 1, 1),
            }
        ]

    def test_more_than_one_batch(self, mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reelhaul.reading.BATCH", 3)
        assert [batch.num_rows for batch in reelhaul.iter_movies(mongo_url)] == [3, 1]

    def test_the_first_filter_makes_the_index(self, mongo_url: str, filled: Storage) -> None:
        reelhaul.movies(mongo_url)
        assert list(filled.movies.collection.index_information()) == ["_id_"]
        reelhaul.movies(mongo_url, years=2000)
        assert "genre_ids_1_release_date_1" in filled.movies.collection.index_information()

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"genres": ["Dramma"]}, reelhaul.UnknownGenre, r"'Dramma'; .*: Action \(28\), Drama \(18\)"),
            ({"genres": [99]}, reelhaul.UnknownGenre, "unknown genre 99"),
            ({"genres": []}, reelhaul.InvalidArgument, "genres: none given"),
            ({"columns": ["titel"]}, reelhaul.UnknownColumn, "unknown column 'titel'; expected some of: id"),
            ({"years": [199]}, reelhaul.InvalidArgument, r"expected numbers within 1870\.\.2100, got 199"),
            ({"years": "1999"}, reelhaul.InvalidArgument, "years: expected numbers .* got '1999'"),
            ({"years": []}, reelhaul.InvalidArgument, "years: none given"),
            ({"since": "today"}, reelhaul.InvalidArgument, "since: expected a date or time, .* got 'today'"),
            ({"max_age": "soon"}, reelhaul.InvalidArgument, "max_age 'soon': expected a length of time"),
            ({"details": True}, reelhaul.NothingStored, "no details are stored yet: `reelhaul details"),
            ({"max_age": "7d"}, reelhaul.NothingStored, "nothing was requested yet"),
        ],
    )
    def test_errors_name_what_was_wrong(
        self, mongo_url: str, arguments: dict[str, Any], error: type[reelhaul.Error], text: str
    ) -> None:
        with pytest.raises(error, match=text) as raised:
            reelhaul.iter_movies(mongo_url, **arguments)  # not only when the first batch is read
        assert isinstance(raised.value, reelhaul.Error)

    def test_genres(self, mongo_url: str) -> None:
        assert reelhaul.genres(mongo_url).to_pylist() == [
            {"id": 18, "name": "Drama", "movies": 2},
            {"id": 28, "name": "Action", "movies": 2},
        ]
        pairs = reelhaul.genre_pairs(mongo_url)
        assert pairs.to_pylist() == [{"genre": "Drama", "other": "Action", "movies": 1}]

    def test_details(self, mongo_url: str, filled: Storage) -> None:
        whole = {
            **movie(3, [], "2000-01-01"),
            "genres": [{"id": DRAMA, "name": "Drama"}],
            "budget": 63_000_000,
        }
        del whole["genre_ids"]
        filled.movies.details.insert_one({"_id": 3, **whole, "_meta": {"fetched_at": NOW}})
        [row] = reelhaul.details(mongo_url, genres="Drama", years=2000).to_pylist()
        assert (row["id"], row["genres"], row["budget"], row["cast"]) == (3, ["Drama"], 63_000_000, None)
        assert reelhaul.details(mongo_url, genres="Action").num_rows == 0

    def test_popular(self, mongo_url: str, filled: Storage) -> None:
        with pytest.raises(reelhaul.NothingStored, match="`reelhaul popular`"):
            reelhaul.popular(mongo_url)
        filled.pages.collection.insert_many(
            [{"_id": "popular:2", "movie_ids": [9, 4, 7, 5]}, {"_id": "popular:1", "movie_ids": [9, 3]}]
        )
        with pytest.warns(
            UserWarning, match="name 5 of the 1,000 most popular movies: `reelhaul popular --pages 51`"
        ):
            table = reelhaul.popular(mongo_url, columns=["rank", "id"])
        assert [tuple(row.values()) for row in table.to_pylist()] == [(1, 9), (2, 3), (4, 7), (5, 5)]
        assert ids(reelhaul.popular(mongo_url, top=2)) == [9, 3]
        with pytest.raises(reelhaul.InvalidArgument, match="top: expected a number from 1, got 0"):
            reelhaul.popular(mongo_url, top=0)


def test_nothing_is_stored(mongo_url: str) -> None:
    for read in (reelhaul.movies, reelhaul.details, reelhaul.popular, reelhaul.genres, reelhaul.genre_pairs):
        with pytest.raises(reelhaul.NothingStored):
            read(mongo_url)
    with pytest.raises(reelhaul.NothingStored, match="no genres are known yet"):
        reelhaul.movies(mongo_url, genres="Drama")


@pytest.mark.parametrize("url", ["mongodb://u:s3cr3t@h:notaport/", "s3cr3t", "http://s3cr3t", 5])
def test_an_address_that_is_none_is_not_quoted(url: str) -> None:
    with pytest.raises(reelhaul.InvalidArgument, match="url: expected mongodb://") as raised:
        reelhaul.movies(url)
    assert "s3cr3t" not in str(raised.value)


def test_no_server() -> None:
    url = f"mongodb://user:s3cr3t@127.0.0.1:{free_port()}/x?serverSelectionTimeoutMS=200"
    with pytest.raises(
        reelhaul.Unavailable, match=r"MongoDB: ServerSelectionTimeoutError: 127\.0\.0\.1"
    ) as raised:
        reelhaul.movies(url)
    assert "s3cr3t" not in str(raised.value)


class TestFreshness:
    OLD, NEW = NOW - timedelta(days=10), NOW - timedelta(days=1)

    @pytest.fixture
    def requested(self, storage: Storage) -> Storage:
        """Complete, partly too old, split, too old in page 1, in quarantine, missing."""
        names = {DRAMA: "Drama", ACTION: "Action"}
        storage.genres.save({**names, 35: "Comedy"}, NOW)
        for backfill in (
            Backfill(names, (1999, 2000, 2001), None, NOW),
            Backfill({35: "Comedy"}, (2020,), None, NOW, "recent"),
        ):
            storage.requests.save(backfill.id, backfill.to_document())
        for page in (1, 2, 3):
            put(storage, PageKey(DRAMA, "1999", page), 3, self.NEW)
            put(storage, PageKey(ACTION, "1999", page), 3, self.OLD if page == 1 else self.NEW)
            put(storage, PageKey(ACTION, "2000", page), 3, self.OLD if page == 2 else self.NEW)
        put(storage, PageKey(DRAMA, "2000", 1), 600, self.NEW)
        for half in Cell(DRAMA, "2000").halves():
            put(storage, half.page(1), 2, self.NEW)
        put(storage, PageKey(DRAMA, "2001", 1), 4, self.NEW)
        for page, at in ((2, self.NEW), (3, self.OLD), (4, NOW + timedelta(hours=1))):
            storage.failures.add(Fetch(PageKey(DRAMA, "2001", page)), Rejected("34", Response(404, b"")), at)
        storage.failures.add(Fetch(PageKey(ACTION, "2001", 1)), Rejected("34", Response(404, b"")), self.NEW)
        storage.pages.collection.insert_one({"_id": "popular:1", "movie_ids": [], "fetched_at": self.OLD})
        return storage

    @pytest.mark.parametrize("age", [timedelta(days=7), timedelta(days=30), timedelta(0)])
    @pytest.mark.parametrize(
        ("genres", "years"),
        [(None, None), ([DRAMA], None), (None, [2000, 2001]), ([ACTION, 35], [1999])],
    )
    def test_counts_what_the_producer_counts(
        self,
        requested: Storage,
        mongo_url: str,
        genres: list[int] | None,
        years: list[int] | None,
        age: timedelta,
    ) -> None:
        """`reelhaul fresh` itself is compared in tests/acceptance/test_data.py."""
        with Source(mongo_url) as source:
            found = freshness.measure(source, genres, years, age)
        cells = plan_cells(genres or [DRAMA, ACTION], years or [1999, 2000, 2001])
        moment = requested.mongo.now() - age
        indexes = CoverageIndex.read(requested, [None, moment])
        pages = done = 0
        for cell in cells:
            ever, lately = indexes[None].coverage(cell), indexes[moment].coverage(cell)
            pages += ever.planned
            done += min(lately.stored, ever.planned) + lately.quarantined
        assert (found.pages, found.stale) == (pages, max(0, pages - done))

    def test_stale_data_says_how_many_pages_and_how_long(
        self, requested: Storage, mongo_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REELHAUL_RATE", "1/10s")
        with pytest.raises(reelhaul.StaleData) as raised:
            reelhaul.movies(mongo_url, genres="Action", years=[1999, 2000], max_age="7d")
        stale = raised.value
        assert (stale.pages, stale.takes_s) == (4, 40.0)
        assert str(stale).startswith(
            "4 pages are missing or older than 7d, at least 40s at the limit; fetch=True"
        )
        requested.movies.collection.insert_one(
            {"_id": 1, "id": 1, "genre_ids": [18], "release_date": "1999-01-01"}
        )
        assert reelhaul.movies(mongo_url, genres="Drama", years=1999, max_age="7d").num_rows == 1


WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
import reelhaul
"""
FLEET = (
    "celery,kombu,redis,requests,flower,pydantic,pydantic_settings,dotenv,typer,rich,structlog,numpy,pandas"
)


def test_it_needs_none_of_the_fleets_packages(mongo_url: str, filled: Storage) -> None:
    read = f"print(reelhaul.movies({mongo_url!r}, genres='Drama').num_rows)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT + read, FLEET],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("2\n", "")
    assert "genre_ids_1_release_date_1" in filled.movies.collection.index_information()


def test_fetch_without_the_fleet_is_one_error(mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reelhaul.fetching.find_spec", lambda _: None)
    with pytest.raises(reelhaul.FetchFailed, match=r"pip install 'reelhaul\[fleet\]'"):
        reelhaul.movies(mongo_url, genres="Drama", years=1999, fetch=True)


def test_a_user_who_may_only_read_needs_no_index(
    mongo_url: str, filled: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise pymongo.errors.OperationFailure("not authorized", code=13)

    monkeypatch.setattr("pymongo.collection.Collection.create_index", denied)
    assert ids(reelhaul.movies(mongo_url, genres="Drama")) == [3, 9]
    assert filled.movies.count() == 5


def test_a_name_that_no_name_server_knows_is_not_called_a_bad_url(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise NXDOMAIN

    monkeypatch.setattr("dns.resolver.resolve", unknown)
    with pytest.raises(reelhaul.Unavailable, match=r"no name server knows the host of the url \(NXDOMAIN\)"):
        reelhaul.movies("mongodb+srv://user:s3cr3t@movies.example.org/reelhaul")
