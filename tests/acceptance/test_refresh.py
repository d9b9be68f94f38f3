"""Keeping it fresh: what changes at TMDB while a fleet runs is stored after one cycle, with few requests."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
import requests

from sandbox.processes import ChildProcess
from sandbox.servers import EmulatorProcess
from tests.support.stage import PATIENCE_S, Stage, catalogue, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(150)]

ALL_YEARS = ("--no-genre", "--years", "1870..2100", "--quiet")
CHANGES_ALONE = '[changes]\ndo = "changes"\nevery = "1h"\n'


def change(server: EmulatorProcess, **what: Any) -> None:
    answer = requests.post(f"http://127.0.0.1:{server.port}/_emulator/movies", json=what, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text


def asked(server: EmulatorProcess, since: int = 0) -> Counter[str]:
    """Requests by kind, from that arrival on."""
    return Counter(row[3] for row in server.log()[since:])


def beat(stage: Stage) -> ChildProcess:
    stage.environment["REELHAUL_TICK_S"] = "2"
    return stage.start(sys.executable, "-m", "celery", "-A", "producer.schedule", "beat")


def gone(stage: Stage) -> set[int]:
    return {movie["_id"] for movie in stage.database["movies"].find({"_meta.gone_at": {"$exists": True}})}


def there(stage: Stage) -> dict[int, dict[str, Any]]:
    """Stored movies that are not marked as gone."""
    left_out = gone(stage)
    return {id_: movie for id_, movie in stage.stored_movies().items() if id_ not in left_out}


def dated(server: EmulatorProcess) -> dict[int, dict[str, Any]]:
    """What discover can show by date."""
    return {id_: movie for id_, movie in catalogue(server).items() if movie["release_date"]}


def shake(server: EmulatorProcess) -> tuple[int, set[int]]:
    """Movies change, appear, move across years and vanish; how many are to be asked for, and the vanished.

    Of what vanishes and of some that stay, the changes say `adult: null`: asking tells which.
    """
    movies = dated(server)
    ids = sorted(movies)
    changed = [{**movies[id_], "title": f"Changed {id_}", "vote_count": 7} for id_ in ids[:60]]
    for movie in changed[:7]:
        movie["adult"] = None
    regenred = [{**movies[id_], "genre_ids": [37]} for id_ in ids[60:80]]
    new = [{**movies[ids[0]], "id": 8_000_000 + n, "release_date": "2003-02-01"} for n in range(20)]
    moves = [{"id": id_, "release_date": "1971-07-07"} for id_ in ids[80:110]]
    vanished = set(ids[110:125])
    change(server, upsert=[*changed, *regenred, *new], move=moves, delete=sorted(vanished))
    return len(changed) + len(regenred) + len(new) + len(moves) + len(vanished), vanished


def test_refresh_by_beat_leaves_the_store_as_the_catalogue_is(stage: Stage) -> None:
    (stage.folder / "schedule.toml").write_text(CHANGES_ALONE)
    stage.environment["REELHAUL_SCHEDULE"] = str(stage.folder / "schedule.toml")
    server = stage.emulator("--movies", "2000", "--latency-ms", "20")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    assert there(stage) == dated(server)
    before = len(server.log())
    needed, vanished = shake(server)
    beating = beat(stage)
    wait_for(lambda: stage.database["cursors"].find_one({"_id": "changes"}) is not None, watching=[beating])
    more = sorted(set(dated(server)) - vanished)[300:320]
    wait_for(lambda: there(stage) == dated(server), watching=[worker, beating])
    assert gone(stage) == vanished

    # While worker and beat run: a second cycle, for which nobody waits an hour.
    change(server, move=[{"id": id_, "release_date": "1984-04-04"} for id_ in more])
    assert stage.reelhaul("schedule", "run", "changes").returncode == 0
    wait_for(lambda: there(stage) == dated(server), watching=[worker, beating])
    requests_made = asked(server, before)
    pages = requests_made.pop("changes")
    assert sum(requests_made.values()) <= 1.1 * (needed + len(more)), requests_made
    assert pages <= 8  # two days of at most two pages, twice
    told = json.loads(stage.reelhaul("schedule", "--json").stdout)
    assert [duty["duty"] for duty in told] == ["changes", "sweep"]
    assert told[0]["outcome"].startswith("read to ")
    assert told[0]["last_run"] < told[0]["next_run"]


def test_refresh_by_two_beats_does_each_duty_once(stage: Stage) -> None:
    server = stage.emulator("--movies", "300")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    before = len(server.log())
    beats = [beat(stage), beat(stage)]
    duties = {"changes", "recent", "oldest", "sweep"}
    wait_for(lambda: duties <= {one["_id"] for one in stage.database["schedule"].find()}, watching=beats)
    wait_for(lambda: stage.database["cursors"].find_one({"_id": "changes"}) is not None, watching=beats)
    assert asked(server, before) == {"changes": 2}  # yesterday and today, once; nothing is old
    assert worker.running


def test_refresh_runs_again_however_much_waits(stage: Stage) -> None:
    """A run that lacks nothing has ended, whether or not the queue was ever short enough to be swept."""
    (stage.folder / "schedule.toml").write_text('[recent]\ndo = "refresh"\nevery = "2s"\nmax_age = "1d"\n')
    stage.environment["REELHAUL_SCHEDULE"] = str(stage.folder / "schedule.toml")
    stage.emulator("--movies", "50")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    worker.stop()
    stage.send(cells=[(18, str(year), 1) for year in range(1900, 2026)])
    ticking = stage.worker("-Q", "refresh")  # nobody takes what waits
    beating = beat(stage)
    runs: set[datetime] = set()

    def has_run_again() -> bool:
        runs.update(one["claimed_at"] for one in stage.database["schedule"].find({"_id": "recent"}))
        return len(runs) > 2

    wait_for(has_run_again, watching=[ticking, beating])
    with redis.Redis.from_url(stage.redis_url) as client:
        assert client.llen("{reelhaul}:cells") == 126


def test_refresh_changes_by_hand_and_the_cursor(stage: Stage) -> None:
    server = stage.emulator("--movies", "600")
    stage.worker()
    assert stage.reelhaul("refresh", "--changes").returncode == 2  # nothing is stored yet
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    needed, vanished = shake(server)
    before = len(server.log())
    ran = stage.reelhaul("refresh", "--changes")
    assert ran.returncode == 0, ran.stderr
    assert f"{needed:,} movies to fetch" in ran.stdout
    assert there(stage) == dated(server)
    assert gone(stage) == vanished
    assert asked(server, before)["details"] == needed
    cursor = stage.database["cursors"].find_one({"_id": "changes"})
    assert cursor is not None

    # A movie that comes back loses its mark, whichever way it is seen.
    back = min(vanished)
    change(server, upsert=[{**stage.stored_movies()[back], "title": "Back again"}])
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 0
    assert there(stage) == dated(server)

    # A gap that TMDB's feed does not reach over.
    stage.database["cursors"].update_one({}, {"$set": {"read_to": cursor["read_to"] - timedelta(days=30)}})
    told = stage.reelhaul("refresh", "--changes")
    assert "30 days since changes were read" in told.stdout
    assert "full sweep, 0 messages sent" in told.stdout  # every page is younger than the feed reaches
    assert stage.database["cursors"].find_one({})["read_to"] > cursor["read_to"]  # type: ignore[index]


def test_refresh_of_a_cell_that_shrank_drops_its_surplus_marks_and_keeps_the_movies(stage: Stage) -> None:
    server = stage.emulator("--movies", "3000")
    stage.worker()
    cell = ("--genres", "Drama", "--years", "2018", "--quiet")
    assert stage.reelhaul("backfill", *cell).returncode == 0
    stored, marks = stage.stored_movies(), stage.stored_pages()
    assert len(marks) > 1
    leave = sorted(stored)[: len(stored) - 5]
    change(server, move=[{"id": id_, "release_date": "1990-01-02"} for id_ in leave])
    before = len(server.log())
    assert stage.reelhaul("refresh", "--max-age", "0s", *cell).returncode == 0
    assert set(stage.stored_pages()) == {"18:2018:1"}
    assert set(stage.stored_movies()) == set(stored)
    # Page 1 told that there is no other, page 2 agreed.
    assert [row[4].rpartition(":")[2] for row in server.log()[before:]] == ["1", "2"]


def test_fresh_answers_before_and_after_time_has_passed(stage: Stage) -> None:
    stage.emulator("--movies", "400")
    stage.worker()
    asked_for = ("--genres", "Drama,Comedy", "--years", "2015..2019")
    assert stage.reelhaul("fresh").returncode == 2  # nothing was asked for yet
    assert stage.reelhaul("backfill", *asked_for, "-q").returncode == 0
    young = stage.reelhaul("fresh", "--max-age", "7d")
    assert (young.returncode, young.stderr) == (0, "")
    assert "fresh: all 10 pages are younger than 7d" in young.stdout

    # What a clock that moved on by eight days leaves: every mark is that much older.
    for mark in list(stage.database["pages"].find()):
        earlier = {"$set": {"fetched_at": mark["fetched_at"] - timedelta(days=8)}}
        stage.database["pages"].update_one({"_id": mark["_id"]}, earlier)
    old = stage.reelhaul("fresh", "--max-age", "7d")
    assert old.returncode == 1
    assert "10 of 10 pages are older than 7d or missing" in old.stdout
    assert stage.reelhaul("fresh").returncode == 0  # 180 days have not passed
    assert stage.reelhaul("fresh", REELHAUL_RETENTION="5d").returncode == 1
    assert stage.reelhaul("fresh", "--years", "2000").returncode == 1  # never asked for
    assert stage.reelhaul("fresh", "--max-age", "soon").returncode == 2
    told = json.loads(stage.reelhaul("fresh", "--max-age", "7d", "--json").stdout)
    assert (told["fresh"], told["stale"], told["pages"], told["max_age"]) == (False, 10, 10, "7d")

    assert stage.reelhaul("refresh", "--max-age", "7d", *asked_for, "-q").returncode == 0
    assert stage.reelhaul("fresh", "--max-age", "7d", "--quiet").returncode == 0


def test_refresh_of_details_with_parts_and_what_tmdb_refuses(stage: Stage) -> None:
    broken = "status=400:match=/movie/8000002"
    server = stage.emulator("--movies", "120", "--fault", broken)
    worker = stage.worker()
    some = next(iter(catalogue(server).values()))
    change(server, upsert=[{**some, "id": 8_000_000 + n, "release_date": "2001-01-01"} for n in range(4)])
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    change(server, delete=[8_000_001])
    ran = stage.reelhaul("details", "--append", "credits", "-q")
    assert ran.returncode == 0, ran.stderr
    details = {one["_id"]: one for one in stage.database["details"].find()}
    assert set(details) == set(stage.stored_movies()) - {8_000_001, 8_000_002}
    assert details[8_000_000]["credits"]["cast"]
    assert details[8_000_000]["runtime"]
    assert details[8_000_000]["_meta"]["page"] == "movie:8000000"
    assert gone(stage) == {8_000_001}
    failed = json.loads(stage.reelhaul("failures", "--json").stdout)
    assert [(one["_id"], one["class"], one["status"]) for one in failed] == [
        ("movie:8000002", "rejected", 400)
    ]

    # Nothing is asked for twice; what changed keeps its parts.
    before = len(server.log())
    assert stage.reelhaul("details", "--append", "credits", "--missing", "-q").returncode == 0
    assert asked(server, before) == {"details": 1}  # the one that TMDB refuses
    change(server, upsert=[{**some, "id": 8_000_003, "title": "Renamed", "release_date": "2001-01-01"}])
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 0
    renamed = stage.database["details"].find_one({"_id": 8_000_003})
    assert renamed is not None
    assert renamed["title"] == "Renamed" == stage.stored_movies()[8_000_003]["title"]
    assert renamed["credits"]["cast"]

    requests.post(f"http://127.0.0.1:{server.port}/_emulator/config", json={"faults": []}, timeout=PATIENCE_S)
    assert "1 enqueued" in stage.reelhaul("failures", "retry", "--key", "movie:8000002").stdout
    wait_for(lambda: stage.database["movie_requests"].count_documents({}) == 0, watching=[worker])
    assert json.loads(stage.reelhaul("failures", "--json").stdout) == []


def test_a_404_that_is_not_tmdbs_makes_no_tombstone(stage: Stage) -> None:
    server = stage.emulator("--movies", "40")
    stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    server.configure(faults=["status=404/html:match=/movie/\\d"])
    command = stage.begin("details", "-q")
    wait_for(lambda: server.stats()["by_status"].get("404", 0) >= 5, watching=stage.children)
    assert gone(stage) == set()
    assert stage.database["failures"].count_documents({}) == 0
    server.configure(faults=[])
    assert command.wait(PATIENCE_S) == 0, command.log_tail()
    assert gone(stage) == set()
    assert stage.database["failures"].count_documents({}) == 0
    assert stage.database["details"].count_documents({}) == len(there(stage))


def test_refresh_survives_the_loss_of_every_message(stage: Stage) -> None:
    server = stage.emulator("--movies", "300")
    assert stage.reelhaul("backfill", *ALL_YEARS, "--detach").returncode == 0
    worker = stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    worker.send(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    needed, _ = shake(server)
    assert stage.reelhaul("refresh", "--changes", "--detach").returncode == 0
    assert stage.database["movie_requests"].count_documents({}) == needed
    with redis.Redis.from_url(stage.redis_url) as client:
        client.flushdb()
    stage.worker()
    beat(stage)
    wait_for(lambda: there(stage) == dated(server))
    wait_for(lambda: stage.database["movie_requests"].count_documents({}) == 0)


def test_expire_removes_what_may_not_be_kept_and_it_counts_as_missing(stage: Stage) -> None:
    stage.emulator("--movies", "300")
    stage.worker()
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2015..2019", "-q").returncode == 0
    assert "nothing is older than 180d" in stage.reelhaul("expire", "--yes").stdout
    [page, *_] = stage.stored_pages()
    mark = stage.database["pages"].find_one({"_id": page})
    assert mark is not None
    year_ago = {"$set": {"fetched_at": mark["fetched_at"] - timedelta(days=365)}}
    stage.database["pages"].update_one({"_id": page}, year_ago)
    told = stage.reelhaul("status")
    assert "1 page" in told.stdout
    assert "REELHAUL_RETENTION" in told.stdout
    assert "1 pages" in stage.reelhaul("expire", "--dry-run").stdout
    assert page in stage.stored_pages()
    assert stage.reelhaul("expire", "--yes").returncode == 0
    assert page not in stage.stored_pages()
    assert stage.progress()["missing"] == 1
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2015..2019", "-q").returncode == 0
    assert page in stage.stored_pages()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("refresh", "--max-age", "soon"), "--max-age 'soon': expected a length of time"),
        (("refresh", "--changes", "--since", "x"), "--since 'x': expected a length of time"),
        (("refresh", "--since", "3d"), "--since 3d: goes with --changes"),
        (("refresh", "--changes", "--years", "1999"), "--changes: TMDB tells changes of all movies"),
        (("backfill", "--no-genre", "--genres", "Drama"), "--no-genre takes every genre"),
        (("details", "--append", "crew"), "--append: unknown part 'crew'; expected some of"),
        (("details", "--from-ids"), "no list of ids is loaded"),
        (("schedule", "run", "nothing"), "duty 'nothing': expected one of changes"),
        (("failures", "show", "movie:x"), "movie key 'movie:x': expected movie:ID"),
        (("movie", " "), "TITLE is empty"),
    ],
)
def test_bad_input_to_refresh_and_its_kin_is_one_line(
    stage: Stage, arguments: tuple[str, ...], said: str
) -> None:
    stage.emulator("--movies", "10")
    refused = stage.reelhaul(*arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_schedule_that_cannot_be_used_stops_beat_and_worker_at_the_start(stage: Stage) -> None:
    bad = stage.folder / "schedule.toml"
    bad.write_text('[changes]\ndo = "changes"\nevery = "hourly"\n')
    stage.environment["REELHAUL_SCHEDULE"] = str(bad)
    for process in (beat(stage), stage.worker()):
        assert process.wait(PATIENCE_S) == 2
        assert "schedule.toml, line 3: every = 'hourly': expected a length of time" in process.log_tail()
        assert "Traceback" not in process.log_text()
    listed = stage.reelhaul("schedule")
    assert (listed.returncode, listed.stderr.count("\n")) == (2, 1)
    assert "line 3" in listed.stderr
