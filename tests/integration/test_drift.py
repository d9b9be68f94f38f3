"""A TMDB that changes while it is read: pages that do not fit are asked for again, and not for ever."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.comparison import expected_cells, page_requests
from tests.support.stage import Stage, wait_for
from worker.keys import Cell
from worker.storage.database import Storage

pytestmark = pytest.mark.timeout(120)

DRAMA = 18
ONE_CELL = ("--genres", "Drama", "--years", "2024", "-q")
CELL = Cell(DRAMA, "2024")


def gaps(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stage.reelhaul("verify", "--json").stdout)["gaps"]
    return found


def test_movies_that_move_are_found_and_the_cell_is_proven(stage: Stage) -> None:
    """1,200 movies in one cell. Every 20th page has slid by one; two get other titles meanwhile."""
    items = (
        {
            "id": id_,
            "original_title": f"{id_ * 7919 % 1201}",
            "genre_ids": [DRAMA],
            "release_date": "2024-05-01",
        }
        for id_ in range(1, 1201)
    )
    (stage.folder / "cell.jsonl").write_text("\n".join(map(json.dumps, items)))
    catalogue = ("--catalog", str(stage.folder / "cell.jsonl"))
    server = stage.emulator(*catalogue, "--drift", "25", "--fault", "shift:every=20:match=release_date")
    worker = stage.worker()
    running = stage.begin("backfill", *ONE_CELL)
    wait_for(lambda: stage.database["pages"].count_documents({}) >= 55, watching=[worker, running])
    server.configure(drift=None)
    assert running.wait(60) == 0, running.log_tail()
    stage.children.remove(running)
    assert gaps(stage) == []
    assert stage.stored_movies().keys() >= set(range(1, 1201))
    asked = page_requests(server)
    assert asked.total() >= 60 + 60 // 20  # pages that slid were asked for again
    assert max(asked.values()) < 10
    assert stage.progress()["short"] == 0


def test_old_pages_from_caches_are_asked_for_again(stage: Stage) -> None:
    server = stage.emulator("--movies", "12000")
    stage.worker()
    assert stage.reelhaul("backfill", *ONE_CELL).returncode == 0
    movies = server.movies()
    some = sorted(expected_cells(movies, [DRAMA], [2024])[CELL])
    new = [{**movies[id_], "id": 2_000_000 + id_} for id_ in some[:25]]
    server.change_movies(upsert=new)
    server.configure(faults=["stale:every=6:match=[?&]page="])
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

    storage = Storage(stage.database)
    assert [storage.pages.begin_repair(CELL, 3) for _ in range(2)] == [True, True]
    begun = datetime.now(UTC)
    assert "1 cell enqueued to be fetched again" in stage.reelhaul("verify", "--repair").stdout
    wait_for(lambda: _is_newer(storage, begun), watching=[worker])
    server.reset()
    repaired = stage.reelhaul("verify", "--repair")
    assert (repaired.returncode, page_requests(server)) == (1, {})
    assert "1 cell not proven after 3 repairs" in " ".join(repaired.stdout.split())

    # Once it fits, it may be repaired again.
    server.configure(faults=[])
    assert stage.reelhaul("refresh", "--max-age", "0s", *ONE_CELL).returncode == 0
    assert gaps(stage) == []
    assert storage.pages.begin_repair(CELL, 1)


def _is_newer(storage: Storage, at: datetime) -> bool:
    """Whether all pages of the cell were fetched since then."""
    return all(page.totals and page.totals.fetched_at > at for page in storage.pages.of_cell(CELL))
