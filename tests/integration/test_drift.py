"""A TMDB that changes while it is read: pages that do not fit are asked for again, and not for ever."""

import json
from typing import Any

import pytest

from tests.support.comparison import expected_cells, page_requests
from tests.support.stage import Stage, wait_for
from worker.keys import Cell
from worker.storage.database import Storage

pytestmark = pytest.mark.timeout(120)

DRAMA = 18
YEARS = range(2020, 2025)
REQUEST = ("--genres", "Drama", "--years", "2020..2024", "-q")
ONE_CELL = ("--genres", "Drama", "--years", "2024", "-q")
CELL = Cell(DRAMA, "2024")


def gaps(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stage.reelhaul("verify", "--json").stdout)["gaps"]
    return found


def test_movies_that_move_are_found_and_every_cell_is_proven(stage: Stage) -> None:
    """Every tenth page has slid by a movie; every 20 pages a movie gets another title, or a new one comes."""
    stage.environment["REELHAUL_RATE"] = "500"
    server = stage.emulator("--movies", "12000", "--fault", "shift:p=0.1", "--drift", "20")
    wanted = set().union(*expected_cells(server.movies(), [DRAMA], YEARS).values())
    stage.worker()
    ended = stage.reelhaul("backfill", *REQUEST)
    assert ended.returncode == 0, ended.stderr
    assert gaps(stage) == []
    assert stage.stored_movies().keys() >= wanted
    assert len(server.movies()) > 12_000
    again = [times for times in page_requests(server).values() if times > 1]
    assert 1 < len(again) < sum(page_requests(server).values())
    assert stage.progress()["short"] == 0


def test_old_pages_from_caches_are_asked_for_again(stage: Stage) -> None:
    server = stage.emulator("--movies", "12000")
    stage.worker()
    assert stage.reelhaul("backfill", *ONE_CELL).returncode == 0
    movies = server.movies()
    some = sorted(expected_cells(movies, [DRAMA], [2024])[CELL])
    new = [{**movies[id_], "id": 2_000_000 + id_} for id_ in some[:25]]
    server.change_movies(upsert=new)
    server.configure(faults=["stale:every=3:match=[?&]page="])
    ended = stage.reelhaul("refresh", "--max-age", "0s", *ONE_CELL)
    assert ended.returncode == 0, ended.stderr
    assert gaps(stage) == []
    assert stage.stored_movies().keys() >= {movie["id"] for movie in new}


def test_what_never_fits_is_noted_as_short_and_repairs_end(stage: Stage) -> None:
    """Page 1 always counts a movie more than there is."""
    fault = "totals=+0/+1:match=release_date"
    server = stage.emulator("--movies", "12000", "--fault", fault)
    worker = stage.worker()
    ended = stage.reelhaul("backfill", *ONE_CELL[:-1])
    assert ended.returncode == 0, ended.stderr
    assert "1 movie short though asked for again" in " ".join(ended.stdout.split())
    assert stage.progress()["short"] == 1
    assert max(page_requests(server).values()) <= 4
    [gap] = gaps(stage)
    assert (gap["reason"], gap["expected"] - gap["found"]) == ("short", 1)

    server.reset()
    assert stage.reelhaul("backfill", *ONE_CELL).returncode == 0
    assert page_requests(server) == {}

    storage, repairs = Storage(stage.database), 0
    while "enqueued to be fetched again" in (repaired := stage.reelhaul("verify", "--repair")).stdout:
        repairs += 1
        assert repairs < 10
        newest = storage.pages.of_cell(CELL)[0].totals
        assert newest
        wait_for(lambda at=newest.fetched_at: _is_newer(storage, at), watching=[worker])
    assert (repairs, repaired.returncode) == (3, 1)
    assert "1 cell not proven after 3 repairs" in " ".join(repaired.stdout.split())
    server.reset()
    assert stage.reelhaul("verify", "--repair").returncode == 1
    assert page_requests(server) == {}

    # Once it fits, it may be repaired again.
    server.configure(faults=[])
    assert stage.reelhaul("refresh", "--max-age", "0s", *ONE_CELL).returncode == 0
    assert gaps(stage) == []
    assert storage.pages.begin_repair(CELL, 1)


def _is_newer(storage: Storage, at: Any) -> bool:
    """Whether all pages of the cell were fetched since then."""
    return all(page.totals and page.totals.fetched_at > at for page in storage.pages.of_cell(CELL))
