"""What every kind of request shares: computed, swept, shown, whatever fetches it."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from producer.requests.changes import Changes
from tests.support.comparison import page_requests
from tests.support.stage import Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(150)]

CELLS = ("--genres", "Drama,Comedy", "--years", "2015..2019")
TOTALS = '[totals]\ndo = "totals"\nevery = "7d"\nmax_age = "0s"\n'


def test_a_new_movie_makes_its_cells_be_fetched_whole_and_no_others(stage: Stage) -> None:
    stage.use_schedule(TOTALS)
    server = stage.emulator("--movies", "4000")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *CELLS, "-q").returncode == 0
    assert stage.reelhaul("verify").returncode == 0
    pages = page_requests(server)
    changed = max(pages, key=lambda id_: int(id_.rpartition(":")[2])).rpartition(":")[0]
    genre, _, year = changed.partition(":")
    assert sum(id_.startswith(f"{changed}:") for id_ in pages) > 1
    some = next(iter(server.movies().values()))
    new = {**some, "id": 8_000_000, "genre_ids": [int(genre)], "release_date": f"{year}-06-01"}
    server.change_movies(upsert=[new])
    server.reset()
    assert stage.reelhaul("schedule", "run", "totals").returncode == 0
    wait_for(lambda: bool(stage.schedule_outcome("totals")), watching=[worker])
    assert stage.stored_movies()[8_000_000] == new
    expected = {id_: 1 for id_ in pages if id_.endswith(":1") or id_.startswith(f"{changed}:")}
    assert page_requests(server) == {**expected, f"{changed}:1": 2}
    # Nothing has changed since: one request a cell; and every cell is still proven.
    assert stage.reelhaul("verify").returncode == 0
    server.reset()
    assert stage.reelhaul("schedule", "run", "totals").returncode == 0
    wait_for(lambda: bool(stage.schedule_outcome("totals")), watching=[worker])
    assert page_requests(server) == {id_: 1 for id_ in pages if id_.endswith(":1")}


def test_totals_of_cells_that_were_fetched_lately_are_not_asked_for(stage: Stage) -> None:
    stage.use_schedule(TOTALS.replace("0s", "1d"))
    server = stage.emulator("--movies", "500")
    stage.worker()
    assert stage.reelhaul("backfill", *CELLS, "-q").returncode == 0
    before = len(server.log())
    assert "0 sent" in stage.reelhaul("schedule", "run", "totals").stdout
    assert len(server.log()) == before


def test_recent_keeps_to_the_years_that_a_backfill_asked_for(stage: Stage) -> None:
    stage.use_schedule('[recent]\ndo = "refresh"\nevery = "1d"\nmax_age = "0s"\n')
    server = stage.emulator("--movies", "500")
    worker = stage.worker()
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "1998..2016", "-q").returncode == 0
    assert stage.reelhaul("backfill", "--genres", "Comedy", "--years", "2026", "-q").returncode == 0
    server.reset()
    assert stage.reelhaul("schedule", "run", "recent").returncode == 0
    wait_for(lambda: bool(stage.schedule_outcome("recent")), watching=[worker])
    assert {id_.rpartition(":")[0] for id_ in page_requests(server)} == {"35:2026"}


def test_changes_of_movies_that_are_not_stored_are_left_alone(stage: Stage) -> None:
    server = stage.emulator("--movies", "400")
    stage.worker()
    assert stage.reelhaul("backfill", *CELLS, "-q").returncode == 0
    stored = stage.stored_movies()
    other = next(movie for id_, movie in server.movies().items() if id_ not in stored)
    mine = min(stored)
    server.change_movies(
        upsert=[
            {**stored[mine], "title": "Changed"},
            {**other, "title": "Changed"},
            {**other, "id": 8_000_000},
        ]
    )
    before = len(server.log())
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 0
    assert [row[4] for row in server.log(before) if row[3] == "details"] == [str(mine)]
    assert stage.stored_movies() == {**stored, mine: {**stored[mine], "title": "Changed"}}
    assert stage.reelhaul("refresh", "--changes", "--new", "-q").returncode == 0
    assert set(stage.stored_movies()) == {*stored, other["id"], 8_000_000}


def test_an_unfinished_reading_is_not_forgotten_by_the_next_one(stage: Stage) -> None:
    stage.emulator("--movies", "200")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *CELLS, "-q").returncode == 0
    worker.stop()
    today = datetime.now(UTC).date()
    for since in ("5d", "1d"):
        assert stage.reelhaul("refresh", "--changes", "--since", since, "--detach").returncode == 0
        [reading] = stage.database["requests"].find({"kind": "changes"})
        assert date.fromisoformat(reading["first"]) <= today - timedelta(days=6)
    stage.worker()
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 0
    assert stage.reelhaul("refresh", "--changes", "--since", "1d", "-q").returncode == 0
    [reading] = stage.database["requests"].find({"kind": "changes"})
    assert date.fromisoformat(reading["first"]) >= today - timedelta(days=2)


def save_reading(stage: Stage, days_ago: int) -> None:
    """A request for changes as it was asked for then."""
    then = datetime.now(UTC) - timedelta(days=days_ago)
    reading = Changes(then.date(), again=True, new=True, requested_at=then)
    stage.database["requests"].insert_one({"_id": reading.id, **reading.to_document()})


def test_an_old_reading_of_changes_asks_for_nothing_and_sweeps_nothing(stage: Stage) -> None:
    server = stage.emulator("--movies", "200")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *CELLS, "-q").returncode == 0
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 0
    save_reading(stage, 20)
    before = len(server.log())
    assert "0 sent" in stage.reelhaul("schedule", "run", "sweep").stdout
    ran = stage.reelhaul("refresh", "--changes")
    assert "full sweep" not in ran.stdout
    worker.stop()
    assert len(server.log()) - before <= 4  # today's and yesterday's pages


def test_a_late_since_hides_no_earlier_day(stage: Stage) -> None:
    stage.emulator("--movies", "200")
    stage.worker()
    assert stage.reelhaul("backfill", *CELLS, "-q").returncode == 0
    ten_days = {"$set": {"fetched_at": datetime.now(UTC) - timedelta(days=10)}}
    stage.database["pages"].update_many({}, ten_days)
    assert stage.reelhaul("refresh", "--changes", "--since", "1h", "-q").returncode == 0
    ran = stage.reelhaul("refresh", "--changes")
    assert f"since {datetime.now(UTC).date() - timedelta(days=11)}" in ran.stdout


def test_changes_of_popular_movies_alone_are_fetched(stage: Stage) -> None:
    server = stage.emulator("--movies", "50")
    stage.worker()
    assert stage.reelhaul("popular", "--pages", "1", "-q").returncode == 0
    changed = {**min(stage.stored_movies().values(), key=lambda movie: movie["id"]), "title": "Changed"}
    server.change_movies(upsert=[changed])
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 0
    assert stage.stored_movies()[changed["id"]] == changed


def test_odd_requests_and_a_damaged_list_stop_no_other_request(stage: Stage) -> None:
    stage.emulator("--movies", "100")
    (stage.folder / "ids.json").write_text('{"id": 1}\n{"id": 2}\n')
    assert stage.reelhaul("ids", "load", "ids.json", "-q").returncode == 0
    stage.worker()
    assert stage.reelhaul("details", "--from-ids", "--detach").returncode == 0
    stage.database["ids"].delete_many({"_id": {"$ne": "current"}})
    stage.database["requests"].insert_many(
        [{"_id": "a", "kind": "backfill"}, {"_id": "b"}, {"_id": "c", "kind": "of another version"}]
    )
    assert stage.reelhaul("backfill", *CELLS, "-q").returncode == 0
    page = next(iter(stage.stored_pages()))
    stage.database["pages"].delete_one({"_id": page})
    assert "1 sent" in stage.reelhaul("schedule", "run", "sweep").stdout
    for command in (("status",), ("status", "--json"), ("fresh",), ("schedule",)):
        ended = stage.reelhaul(*command)
        assert ended.returncode in (0, 1), ended.stderr
        assert all(line.startswith("{") for line in ended.stderr.splitlines())  # logged, once a collection


def test_status_shows_every_kind_of_request_with_the_time_left(stage: Stage) -> None:
    stage.environment |= {"REELHAUL_RATE": "20", "REELHAUL_CAPACITY": "1"}
    server = stage.emulator("--movies", "300")
    worker = stage.worker()
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2010..2019", "-q").returncode == 0
    stored = stage.stored_movies()
    server.change_movies(upsert=[{**movie, "title": "Changed"} for movie in stored.values()])
    worker.stop()
    for command in (
        ("refresh", "--changes"),
        ("details", "--append", "credits"),
        ("popular", "--pages", "3"),
    ):
        assert stage.reelhaul(*command, "--detach").returncode == 0
    assert stage.reelhaul("backfill", "--genres", "Comedy", "--years", "2019", "--detach").returncode == 0

    def rows() -> dict[str, dict[str, Any]]:
        ran = stage.reelhaul("status", "--json")
        return {row["kind"]: row for row in json.loads(ran.stdout)[:4]}

    begun = rows()
    assert set(begun) == {"backfill", "popular", "details", "changes"}
    assert begun["details"]["movies_planned"] == len(stored)
    assert all(row["missing"] > 0 and row["left_s"] > 0 for row in begun.values())
    shown = " ".join(stage.reelhaul("status").stdout.split())
    details = f"details {begun['details']['id']}: stored movies, with credits: "
    assert f"{details}0 of {len(stored)} movies fetched, {len(stored)} missing" in shown
    assert f"changes {begun['changes']['id']}: changes since" in shown
    assert "left" in shown
    worker = stage.worker()
    wait_for(lambda: not any(row["missing"] for row in rows().values()), watching=[worker])
    done = rows()
    assert done["changes"]["movies_stored"] == done["changes"]["movies_planned"] == len(stored)
    assert done["details"]["movies_stored"] == len(stored)
    assert done["popular"]["pages_stored"] == 3


def test_a_command_ended_half_way_is_taken_up_again(stage: Stage) -> None:
    """Nothing is fetched twice, whoever fetches it."""
    stage.environment |= {"REELHAUL_RATE": "20", "REELHAUL_CAPACITY": "1"}
    server = stage.emulator("--movies", "400")
    worker = stage.worker()
    command = stage.begin("popular", "--pages", "20")
    wait_for(lambda: len(stage.stored_pages()) >= 5, watching=[worker, command])
    command.kill()
    worker.kill()
    stage.worker()
    assert stage.reelhaul("popular", "--pages", "20", "-q").returncode == 0
    assert len(stage.stored_pages()) == 20
    assert server.stats()["by_kind"]["popular"] <= 20 + int(stage.environment["REELHAUL_CONCURRENCY"])
