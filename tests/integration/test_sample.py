"""`reelhaul verify --sample` and `--hashes`: what differs from TMDB, and from what was saved."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from pymongo.database import Database

from producer.sample import compare_page
from sandbox.servers import EmulatorProcess
from tests.support.pages import AT, page_of
from tests.support.stage import Stage, wait_for
from worker.keys import MovieKey, PageKey
from worker.records import Details
from worker.storage.database import Storage

KEY = PageKey(18, "2024", 1)
MOVIES: list[dict[str, Any]] = [
    {"id": id_, "title": f"Movie {id_}", "popularity": 7.5, "vote_count": 3, "genre_ids": [18]}
    for id_ in (1, 2, 3)
]


def compared(storage: Storage, now: Sequence[dict[str, Any]], total_pages: int = 1) -> dict[str, Any]:
    """What differs between the stored page and these movies, without what does not."""
    [record] = storage.pages.sample(5)
    stored = {movie["_id"]: movie for movie in storage.movies.in_order(record.movie_ids)}
    check = compare_page(record, stored, page_of(now, total_pages=total_pages))
    return {**{name: value for name, value in vars(check).items() if value}, "differs": check.differs}


@pytest.fixture
def saved(storage: Storage) -> Storage:
    storage.pages.save(KEY, page_of(MOVIES))
    return storage


def test_what_is_as_stored_differs_in_nothing(saved: Storage) -> None:
    assert compared(saved, MOVIES[::-1]) == {"page": KEY.id, "differs": False}


def test_what_tmdb_changes_every_day_is_named_and_no_difference(saved: Storage) -> None:
    now = [{**MOVIES[0], "popularity": 8, "vote_count": 4}, *MOVIES[1:]]
    assert compared(saved, now) == {
        "page": KEY.id,
        "changed": {1: ["popularity", "vote_count"]},
        "differs": False,
    }


def test_everything_else_is_a_difference(saved: Storage) -> None:
    without = {name: value for name, value in MOVIES[1].items() if name != "genre_ids"}
    now = [{**MOVIES[0], "title": "Another", "adult": None}, without, {**MOVIES[2], "id": 4}]
    assert compared(saved, now, total_pages=2) == {
        "page": KEY.id,
        "totals": "3 movies on 2 pages, stored 3 on 1",
        "more": [4],
        "lacks": [3],
        "changed": {1: ["adult", "title"], 2: ["genre_ids"]},
        "differs": True,
    }


def test_an_edit_by_hand_is_told_from_a_change_at_tmdb(saved: Storage, database: Database[Any]) -> None:
    database["movies"].update_one({"_id": 2}, {"$set": {"popularity": 9}})
    database["movies"].delete_one({"_id": 3})
    assert compared(saved, MOVIES) == {
        "page": KEY.id,
        "not_stored": [3],
        "damaged": [2],
        "changed": {2: ["popularity"]},
        "differs": True,
    }


def test_a_sample_is_of_the_pages_of_cells_and_every_page_is_as_likely(storage: Storage) -> None:
    pages = [KEY._replace(page=number) for number in range(1, 11)]
    for key in pages:
        storage.pages.save(key, page_of(number=key.page, total_pages=10))
    storage.mongo.database["pages"].insert_one({"_id": "popular:1", "page": 1})
    times = dict.fromkeys(pages, 0)
    for _ in range(300):
        sample = [record.key for record in storage.pages.sample(2)]
        assert len(set(sample)) == 2
        for key in sample:
            times[key] += 1
    # 60 expected of each, with a standard deviation of 7.
    assert all(25 < number < 95 for number in times.values()), times
    assert {record.key for record in storage.pages.sample(100)} == set(pages)


@pytest.mark.parametrize("edit", [{"title": "Edited"}, {"vote_count": 3.5}, {"_meta": {}}, {"new": b"bytes"}])
def test_the_hash_of_every_document_is_computed(
    saved: Storage, database: Database[Any], edit: dict[str, Any]
) -> None:
    movie = {"id": 1, "title": "Movie 1", "genres": [{"id": 18, "name": "Drama"}], "runtime": 90}
    saved.movies.save_details(MovieKey(1), Details(movie, AT, b""), whole=True)
    for details in (False, True):
        assert all(is_as_saved for _, _, is_as_saved in saved.movies.hashes(details=details))
        database["details" if details else "movies"].update_one({"_id": 1}, {"$set": edit})
        damaged = [id_ for id_, _, is_as_saved in saved.movies.hashes(details=details) if not is_as_saved]
        assert damaged == [1]


def as_json(stage: Stage, *arguments: str) -> tuple[int, dict[str, Any]]:
    ended = stage.reelhaul("verify", *arguments, "--json")
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def stored_and_served(stage: Stage) -> tuple[EmulatorProcess, int]:
    """An emulator of which a worker has stored a few cells, and one of the movies."""
    server = stage.emulator("--movies", "800")
    stage.worker()
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2010..2020", "-q").returncode == 0
    return server, min(stage.stored_movies())


def test_a_sample_and_the_hashes_find_an_edit_and_a_repair_mends_it(stage: Stage) -> None:
    server, id_ = stored_and_served(stage)
    pages = stage.database["pages"].count_documents({})
    before = list(stage.database["pages"].find())
    assert as_json(stage, "--sample", "999")[1] | {"checks": []} == {
        "pages": pages,
        "differing": 0,
        "checks": [],
    }
    assert as_json(stage, "--hashes") == (
        0,
        {"movies": len(stage.stored_movies()), "details": 0, "damaged": []},
    )
    stage.database["movies"].update_one({"_id": id_}, {"$set": {"title": "Edited"}})
    code, found = as_json(stage, "--sample", "999")
    assert (code, found["differing"]) == (1, 1)
    [check] = [check for check in found["checks"] if check["differs"]]
    assert (check["damaged"], check["changed"]) == ([id_], {str(id_): ["title"]})
    assert list(stage.database["pages"].find()) == before  # nothing is stored
    ended = stage.reelhaul("verify", "--sample", "999")
    assert f"{check['page']}: not as saved: {id_}; {id_} has another title\n" in ended.stdout
    code, found = as_json(stage, "--hashes")
    assert (code, found["damaged"]) == (1, [{"collection": "movies", "id": id_}])
    assert stage.reelhaul("verify", "--hashes", "--repair").returncode == 1
    served = server.movies()
    wait_for(lambda: stage.stored_movies()[id_] == served[id_], watching=stage.children)
    assert as_json(stage, "--hashes")[0] == 0


def test_a_change_at_tmdb_and_a_page_that_is_gone_are_found(stage: Stage) -> None:
    server, id_ = stored_and_served(stage)
    movie = server.movies()[id_]
    server.change_movies(upsert=[{**movie, "overview": "Told anew"}])
    code, found = as_json(stage, "--sample", "999")
    assert (code, found["differing"]) == (1, 1)
    server.configure(faults=["status=404:match=discover"])
    code, found = as_json(stage, "--sample", "1")
    assert code == 1
    assert found["checks"][0]["rejected"].startswith("HTTP 404")


@pytest.mark.parametrize(
    "options", [("--sample", "0"), ("--sample", "2", "--ids"), ("--hashes", "--ids"), ("--sample", "3")]
)
def test_bad_input(stage: Stage, options: tuple[str, ...]) -> None:
    ended = stage.reelhaul("verify", *options)
    assert (ended.returncode, ended.stdout) == (2, "")
