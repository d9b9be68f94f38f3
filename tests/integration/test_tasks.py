"""One worker and real messages: what becomes of a page, whatever TMDB sends."""

import random
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pymongo
import pytest
import redis

from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from tests.support.comparison import catalogue, expected_cell, page_requests
from tests.support.stage import Stage, wait_for

#: Each test has its own years, so that all can share one worker.
MOVIES = "4000"
DRAMA = 18


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, mongo_server: EmbeddedMongo) -> Iterator[Stage]:
    """One worker and a Redis of its own, for the whole module."""
    mongo_url = f"{mongo_server.url}/reelhaul_test_{uuid4().hex[:12]}"
    folder: Path = tmp_path_factory.mktemp("fleet")
    with EmbeddedRedis(appendonly=False) as server, closing(Stage(folder, server.url, mongo_url)) as stage:
        stage.emulator("--movies", MOVIES)
        stage.worker()
        yield stage
        with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
            client.drop_database(stage.database.name)


@pytest.fixture
def tmdb(fleet: Stage) -> Iterator[EmulatorProcess]:
    """The fleet's emulator, with an empty log and without faults."""
    [server] = fleet.emulators
    server.reset()
    yield server
    server.configure(faults=[])


def wait_until_done(fleet: Stage) -> None:
    """Return when no message is left, waiting or with a worker."""
    with redis.Redis.from_url(fleet.redis_url) as client:
        keys = ["cells", "pages", "refresh", "refresh_cells", "movies"]

        def is_done() -> bool:
            waiting = sum(int(client.llen(f"{{reelhaul}}:{key}")) for key in keys)
            return not waiting and not client.hlen("{reelhaul}:unacked")

        # Twice in a row: while a worker takes a message, it is in neither place.
        wait_for(lambda: is_done() and is_done(), watching=fleet.children)


def pages_of(fleet: Stage, year: int) -> dict[str, list[int]]:
    return {id_: ids for id_, ids in fleet.stored_pages().items() if f":{year}:" in id_}


def failures_of(fleet: Stage, year: int) -> dict[str, dict[str, object]]:
    return {found["_id"]: found for found in fleet.database["failures"].find({"window": str(year)})}


def test_page_1_enqueues_the_rest_of_its_cell(fleet: Stage, tmdb: EmulatorProcess) -> None:
    fleet.send(cells=[(DRAMA, "2024", 1)])
    movies = catalogue(tmdb)
    wanted = expected_cell(movies, DRAMA, 2024)
    assert len(wanted) > 40
    wait_for(lambda: sum(map(len, pages_of(fleet, 2024).values())) == len(wanted), watching=fleet.children)
    wait_until_done(fleet)
    assert {id_ for ids in pages_of(fleet, 2024).values() for id_ in ids} == wanted
    stored = fleet.stored_movies()
    assert {id_: stored[id_] for id_ in wanted} == {id_: movies[id_] for id_ in wanted}
    assert set(page_requests(tmdb).values()) == {1}


def test_only_missing_pages_are_requested(fleet: Stage, tmdb: EmulatorProcess) -> None:
    fleet.send(cells=[(DRAMA, "2023", 1)])
    wait_for(lambda: bool(pages_of(fleet, 2023)), watching=fleet.children)
    wait_until_done(fleet)
    pages = pages_of(fleet, 2023)
    assert len(pages) > 2
    fleet.database["pages"].delete_one({"_id": "18:2023:2"})
    tmdb.reset()
    fleet.send(cells=[(DRAMA, "2023", 1)])
    wait_for(lambda: pages_of(fleet, 2023).keys() == pages.keys(), watching=fleet.children)
    wait_until_done(fleet)
    assert page_requests(tmdb) == {"18:2023:2": 1}


def test_repeated_and_shuffled_messages_leave_the_same_pages(fleet: Stage, tmdb: EmulatorProcess) -> None:
    wanted = expected_cell(catalogue(tmdb), DRAMA, 2022)
    pages = -(-len(wanted) // 20)
    messages = [(DRAMA, "2022", page) for page in range(1, pages + 1)] * 3
    random.Random(7).shuffle(messages)  # noqa: S311 -- an order, no secret
    fleet.send(pages=messages[::2], refresh=messages[1::2])
    wait_for(lambda: len(pages_of(fleet, 2022)) == pages, watching=fleet.children)
    wait_until_done(fleet)
    stored = pages_of(fleet, 2022)
    assert len(stored) == pages
    assert sorted(id_ for ids in stored.values() for id_ in ids) == sorted(wanted)
    assert wanted <= fleet.stored_movies().keys()
    assert failures_of(fleet, 2022) == {}


@pytest.mark.parametrize(
    ("year", "fault", "becomes"),
    [
        (2021, "status=404/json", ("rejected", 404)),
        (2020, "error=22", ("rejected", 400)),
        (2019, "not-json", ("poison", 200)),
        (2018, "hostile=reserved", ("unstorable", 200)),
        (2017, "error-200=34", ("rejected", 200)),
    ],
)
def test_hopeless_page_is_quarantined_and_the_others_are_stored(
    fleet: Stage, tmdb: EmulatorProcess, year: int, fault: str, becomes: tuple[str, int]
) -> None:
    tmdb.configure(faults=[f"{fault}:match=with_genres=18&.*gte={year}-.*page=2(&|$)"])
    fleet.send(cells=[(DRAMA, str(year), 1)])
    wait_for(lambda: bool(failures_of(fleet, year)), watching=fleet.children)
    wait_until_done(fleet)
    failures, pages = failures_of(fleet, year), pages_of(fleet, year)
    assert list(failures) == [f"18:{year}:2"]
    failure = failures[f"18:{year}:2"]
    assert (failure["class"], failure["status"], failure["attempts"]) == (*becomes, 1)
    assert failure["body"]
    wanted = expected_cell(catalogue(tmdb), DRAMA, year)
    assert sum(map(len, pages.values())) == len(wanted) - min(20, len(wanted) - 20)
    assert len(pages) == -(-len(wanted) // 20) - 1
    if becomes[0] != "poison":
        assert page_requests(tmdb)[f"18:{year}:2"] == 1


@pytest.mark.parametrize(
    ("year", "fault"),
    [
        (2016, "429=1:count=3"),
        (2015, "429:count=2"),
        (2014, "status=503/html:count=4"),
        (2013, "reset=start:count=4"),
        (2012, "hang:count=2"),
        (2011, "truncate:count=3"),
    ],
)
def test_passing_failure_quarantines_nothing(
    fleet: Stage, tmdb: EmulatorProcess, year: int, fault: str
) -> None:
    wanted = expected_cell(catalogue(tmdb), DRAMA, year)
    tmdb.configure(faults=[fault])
    fleet.send(cells=[(DRAMA, str(year), 1)])
    wait_for(lambda: sum(map(len, pages_of(fleet, year).values())) == len(wanted), watching=fleet.children)
    wait_until_done(fleet)
    assert failures_of(fleet, year) == {}
    assert tmdb.stats()["by_fault"]


MALFORMED = """
from worker.tasks import app, fetch_changes, fetch_movie, fetch_page, fetch_popular, fetch_totals
year = "2010"
for args in (
    (), (18,), ("18", year, 1), (18, 2010, 1), (18, year, "1"), (18, "10", 1), (18, year, 0), (None,) * 3,
    (18, year, 1, "soon"), (18, year, 1, -1), (18, year, 1, 10**30), (18, "2010-01-01/2010-12-31", 1),
    (18, year, 1, 0, 0), ([18], year, 1), (18, {"$gt": ""}, 1), (True, year, 1), (18.0, year, 1),
    (18, year * 10_000, 1), (18, year, 501), (18, year, 10**12), (18, year, -1), (-1, year, 1),
    (2**31, year, 1), (10**30, year, 1), (18, "0001-01-01/0001-06-30", 1), (18, "2010-01-01/2101-01-01", 1),
):
    app.send_task(fetch_page.name, args=args, queue="cells")
for task, args in (
    *((fetch_movie, args) for args in ((0,), (-1,), (2**63,), (10**30,), ("603",), (603, 0, "crew"))),
    *((fetch_totals, args) for args in ((18,), (18, year, "soon"), (-1, year))),
    *((fetch_popular, args) for args in ((0,), ("1",), (501,), (1, 0, 0), (1, 0, 501), (1, 0, True))),
    *((fetch_changes, args) for args in (("2026-13-01", 1), ("20260101", 1), ("2026-01-01", 0))),
    *((fetch_changes, ("2026-01-01", 1, 0, *flags)) for flags in ((2,), (0, "1"), (True,))),
):
    app.send_task(task.name, args=args, queue="cells")
app.send_task(fetch_page.name, args=(18, year, 1), kwargs={"surplus": 1}, queue="cells")
"""


def test_malformed_messages_are_rejected(fleet: Stage, tmdb: EmulatorProcess) -> None:
    done = fleet.start(sys.executable, "-c", MALFORMED)
    assert done.wait(30) == 0, done.log_tail()
    fleet.children.remove(done)
    wait_until_done(fleet)
    assert page_requests(tmdb) == {}
    assert pages_of(fleet, 2010) == {}
    for name in ("failures", "pages"):
        assert fleet.database[name].count_documents({"page": {"$not": {"$gte": 1, "$lte": 500}}}) == 0
        assert fleet.database[name].count_documents({"genre_id": {"$not": {"$gte": 0, "$lte": 20_000}}}) == 0
    fleet.send(cells=[(DRAMA, "2010", 1)])
    wait_for(lambda: "18:2010:1" in pages_of(fleet, 2010), watching=fleet.children)


def test_no_secret_in_logs_and_documents(fleet: Stage) -> None:
    """Last in the file: by now the worker has met every kind of failure."""
    token = fleet.environment["TMDB_TOKEN"]
    for child in fleet.children:
        assert token not in child.log_text()
    for name in fleet.database.list_collection_names():
        for document in fleet.database[name].find():
            assert token not in repr(document)
