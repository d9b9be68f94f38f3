"""`reelhaul backfill` completes, resumes, detaches, splits large windows, and fetches nothing twice."""

import json
import re
import signal
from typing import Any

import pytest
import redis

from sandbox.servers import EmulatorProcess
from tests.support.comparison import (
    Comparison,
    catalogue,
    compare,
    expected_cells,
    expected_pages,
    page_id,
    page_key,
    page_requests,
)
from tests.support.stage import Stage, wait_for

pytestmark = pytest.mark.acceptance

GENRES = {18: "Drama", 35: "Comedy", 10752: "War"}
YEARS = range(2016, 2020)
REQUEST = ("--genres", "Drama,comedy,10752", "--years", "2016..2019")
MOVIES = "3000"


def assert_store_equals_catalogue(stage: Stage, server: EmulatorProcess) -> None:
    movies = catalogue(server)
    assert compare(stage.database, movies, expected_cells(movies, GENRES, YEARS)) == Comparison()


@pytest.mark.timeout(120)
def test_completes_and_a_second_run_requests_nothing(stage: Stage) -> None:
    server = stage.emulator("--movies", MOVIES)
    stage.worker()
    stage.worker()
    planned = stage.reelhaul("backfill", *REQUEST, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("12 cells: 3 genres x 4 years")
    assert page_requests(server) == {}

    first = stage.reelhaul("backfill", *REQUEST)
    assert first.returncode == 0, first.stderr
    assert_store_equals_catalogue(stage, server)
    pages = len(stage.stored_pages())
    assert f"{pages} of {pages} pages stored" in first.stdout
    requests = page_requests(server)
    assert requests.keys() == stage.stored_pages().keys()
    assert set(requests.values()) == {1}

    progress = stage.progress()
    assert (progress["cells"], progress["opened"], progress["pages_planned"]) == (12, 12, pages)
    assert (progress["pages_stored"], progress["missing"], progress["quarantined"]) == (pages, 0, 0)
    assert progress["movies"] == len(stage.stored_movies())
    assert list(progress["by_year"]) == [str(year) for year in YEARS]
    assert set(progress["by_genre"]) == set(GENRES.values())

    server.reset()
    second = stage.reelhaul("backfill", *REQUEST)
    assert second.returncode == 0, second.stderr
    part = stage.reelhaul("backfill", "--genres", "Drama", "--years", "2017", "--quiet")
    assert (part.returncode, part.stdout) == (0, "")
    assert server.log() == []

    written = stage.reelhaul("export", "movies.jsonl")
    assert written.returncode == 0, written.stderr
    exported = [json.loads(line) for line in (stage.folder / "movies.jsonl").read_text().splitlines()]
    assert {movie["id"]: movie for movie in exported} == stage.stored_movies()

    stale = stage.reelhaul("backfill", *REQUEST, "--max-age", "0s")
    assert stale.returncode == 0, stale.stderr
    assert set(page_requests(server)) == set(stage.stored_pages())
    assert_store_equals_catalogue(stage, server)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("broker", ["kept", "wiped"])
def test_killed_after_a_third_it_resumes_and_fetches_nothing_twice(stage: Stage, broker: str) -> None:
    stage.environment["REELHAUL_RATE"] = "60"
    server = stage.emulator("--movies", MOVIES, "--latency-ms", "50")
    stage.worker()
    stage.worker()
    total = len(expected_pages(expected_cells(catalogue(server), GENRES, YEARS)))
    running = stage.begin("backfill", *REQUEST)
    wait_for(lambda: stage.database["pages"].count_documents({}) * 3 >= total, watching=stage.children)
    assert running.running
    stage.kill_workers()
    stage.children.clear()
    stored = set(stage.stored_pages())
    assert total / 3 <= len(stored) < total
    in_flight = set(page_requests(server)) - stored
    assert len(in_flight) <= 16  # two workers with eight threads each

    with redis.Redis.from_url(stage.redis_url) as client:
        if broker == "wiped":
            client.flushdb()
    stage.worker()
    stage.worker()
    again = stage.reelhaul("backfill", *REQUEST)
    assert again.returncode == 0, again.stderr
    assert stage.progress()["missing"] == 0
    assert_store_equals_catalogue(stage, server)
    twice = {id_ for id_, times in page_requests(server).items() if times > 1}
    assert twice <= in_flight
    assert all(times <= 2 for times in page_requests(server).values())


def test_ctrl_c_detaches_and_the_workers_go_on(stage: Stage) -> None:
    stage.environment["REELHAUL_RATE"] = "40"
    server = stage.emulator("--movies", MOVIES)
    worker = stage.worker()
    running = stage.begin("backfill", *REQUEST)
    wait_for(lambda: stage.database["pages"].count_documents({}) > 3, watching=[worker, running])
    running.send(signal.SIGINT)
    assert running.wait(30) == 0, running.log_text()
    printed = running.log_text()
    stage.children.remove(running)
    assert "detached; the workers continue with backfill" in printed
    assert "reelhaul status --watch" in printed
    assert "Traceback" not in printed
    wait_for(lambda: stage.progress()["missing"] == 0, watching=[worker])
    assert_store_equals_catalogue(stage, server)


def test_detach_returns_at_once(stage: Stage) -> None:
    server = stage.emulator("--movies", MOVIES)
    begun = stage.reelhaul("backfill", *REQUEST, "--detach")
    assert begun.returncode == 0, begun.stderr
    assert re.search(r"backfill [0-9a-f]{8}: 12 messages sent; `reelhaul status", begun.stdout)
    assert page_requests(server) == {}
    progress = stage.progress()
    assert (progress["cells"], progress["opened"], progress["missing"]) == (12, 0, 12)


def test_without_a_worker_it_ends_with_an_error(stage: Stage) -> None:
    stage.emulator("--movies", "50")
    alone = stage.reelhaul("backfill", "--genres", "War", "--years", "2019")
    assert alone.returncode == 2
    assert alone.stderr.startswith("reelhaul: no worker answers, 1 request missing; start workers with")
    assert alone.stderr.count("\n") == 1


def test_page_in_quarantine_is_shown_and_exits_with_1(stage: Stage) -> None:
    stage.emulator("--movies", MOVIES, "--fault", "error=34:match=gte=2018-.*page=2(&|$)")
    stage.worker()
    ended = stage.reelhaul("backfill", "--genres", "Drama", "--years", "2017..2018")
    assert ended.returncode == 1, ended.stderr
    assert ", 1 in quarantine" in ended.stdout
    assert (stage.progress()["missing"], stage.progress()["quarantined"]) == (0, 1)


#: More than 500 pages; each list item is as short as possible.
SHORT_MOVIES = 10_100


@pytest.mark.timeout(150)
def test_window_above_500_pages_is_split(stage: Stage) -> None:
    lines = []
    for id_ in range(1, SHORT_MOVIES + 1):
        day = f"{1 + id_ % 12:02d}-{1 + id_ % 28:02d}"
        movie: dict[str, Any] = {
            "id": id_,
            "title": f"{id_}",
            "genre_ids": [18],
            "release_date": f"2020-{day}",
        }
        lines.append(json.dumps(movie))
    (stage.folder / "long.jsonl").write_text("\n".join(lines))
    stage.environment["REELHAUL_RATE"] = "1000"
    server = stage.emulator("--catalog", str(stage.folder / "long.jsonl"))
    stage.worker()
    stage.worker()
    ended = stage.reelhaul("backfill", "--genres", "Drama", "--years", "2020")
    assert ended.returncode == 0, ended.stderr
    pages = stage.stored_pages()
    halves = {page_key(id_).window for id_ in pages if id_ != "18:2020:1"}
    assert halves == {"2020-01-01/2020-07-01", "2020-07-02/2020-12-31"}
    split = [id_ for name, ids in pages.items() if name != "18:2020:1" for id_ in ids]
    assert sorted(split) == list(range(1, SHORT_MOVIES + 1))
    assert stage.stored_movies().keys() == set(split)
    progress = stage.progress()
    assert (progress["pages_planned"], progress["missing"]) == (len(pages), 0)
    assert max(page_key(page_id(row[4])).page for row in server.log() if row[3] == "discover") <= 500


@pytest.mark.timeout(150)
def test_a_day_above_500_pages_is_read_from_both_ends(stage: Stage) -> None:
    """12,000 movies on 1 January, and one a day on 40 others."""
    days = ["2020-01-01"] * 12_000 + [f"2020-{5 + n // 20:02}-{1 + n % 20:02}" for n in range(40)]
    items = (
        {"id": id_, "original_title": f"{id_ * 7919 % 4001}", "genre_ids": [18], "release_date": day}
        for id_, day in enumerate(days, 1)
    )
    (stage.folder / "heap.jsonl").write_text("\n".join(map(json.dumps, items)))
    stage.environment["REELHAUL_RATE"] = "1000"
    server = stage.emulator("--catalog", str(stage.folder / "heap.jsonl"))
    stage.worker()
    stage.worker()
    ended = stage.reelhaul("backfill", "--by", "date", "--years", "2020", "-q")
    assert ended.returncode == 0, ended.stderr
    assert stage.stored_movies().keys() == set(range(1, len(days) + 1))
    assert stage.reelhaul("verify").returncode == 0
    assert (stage.progress()["missing"], stage.progress()["unreachable"]) == (0, 0)
    requests = page_requests(server)
    assert requests.keys() == stage.stored_pages().keys()
    assert requests.total() < 12_040 / 20 + 40
