"""Refreshes: what changes at TMDB is stored after one of them, with few requests."""

import json
import signal
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import redis

from sandbox.servers import EmulatorProcess
from tests.support.stage import PATIENCE_S, Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(150)]

#: Selects the pages of the change feed.
OF_CHANGES = {"$gte": "changes:", "$lt": "changes;"}
ALL_YEARS = ("--no-genre", "--years", "1870..2100", "--quiet")


def requests_made(server: EmulatorProcess, since: int = 0) -> Counter[str]:
    """Requests by kind, from arrival number `since` on."""
    return Counter(row[3] for row in server.log(since))


def earlier(day: str, days: int) -> str:
    return f"{date.fromisoformat(day) - timedelta(days=days)}"


def gone(stage: Stage) -> set[int]:
    return {movie["_id"] for movie in stage.database["movies"].find({"_meta.gone_at": {"$exists": True}})}


def not_gone(stage: Stage) -> dict[int, dict[str, Any]]:
    """The stored movies that are not marked as gone."""
    ids = gone(stage)
    return {id_: movie for id_, movie in stage.stored_movies().items() if id_ not in ids}


def dated(server: EmulatorProcess) -> dict[int, dict[str, Any]]:
    """The movies that discover lists by date."""
    return {id_: movie for id_, movie in server.movies().items() if movie["release_date"]}


def change_catalogue(server: EmulatorProcess) -> tuple[int, set[int]]:
    """Change, add, move and delete movies; returns how many have to be fetched, and the deleted ones.

    The change feed says `adult: null` of the deleted movies and of some others: only a request shows which.
    """
    movies = dated(server)
    ids = sorted(movies)
    changed = [{**movies[id_], "title": f"Changed {id_}", "vote_count": 7} for id_ in ids[:60]]
    for movie in changed[:7]:
        movie["adult"] = None
    regenred = [{**movies[id_], "genre_ids": [37]} for id_ in ids[60:80]]
    new = [{**movies[ids[0]], "id": 8_000_000 + n, "release_date": "2003-02-01"} for n in range(20)]
    moves = [{"id": id_, "release_date": "1971-07-07"} for id_ in ids[80:110]]
    deleted = set(ids[110:125])
    server.change_movies(upsert=[*changed, *regenred, *new], move=moves, delete=sorted(deleted))
    return len(changed) + len(regenred) + len(new) + len(moves) + len(deleted), deleted


def test_beat_refreshes_what_changed_at_tmdb(stage: Stage) -> None:
    stage.use_schedule('[changes]\ndo = "changes"\nevery = "1h"\nnew = true\n')
    server = stage.emulator("--movies", "2000", "--latency-ms", "20")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    assert not_gone(stage) == dated(server)
    before = len(server.log())
    needed, deleted = change_catalogue(server)
    beat = stage.beat()
    wait_for(lambda: stage.database["pages"].find_one({"_id": OF_CHANGES}) is not None, watching=[beat])
    more = sorted(set(dated(server)) - deleted)[300:320]
    wait_for(lambda: not_gone(stage) == dated(server), watching=[worker, beat])
    assert gone(stage) == deleted

    # A second run while worker and beat run, an hour early.
    server.change_movies(move=[{"id": id_, "release_date": "1984-04-04"} for id_ in more])
    assert stage.reelhaul("schedule", "run", "changes").returncode == 0
    wait_for(lambda: not_gone(stage) == dated(server), watching=[worker, beat])
    counts = requests_made(server, before)
    pages = counts.pop("changes")
    assert sum(counts.values()) <= 1.1 * (needed + len(more)), counts
    assert pages <= 8  # two days of at most two pages, twice
    wait_for(lambda: stage.schedule_outcome("changes").startswith("changes since "), watching=[worker, beat])
    listed = json.loads(stage.reelhaul("schedule", "--json").stdout)
    assert [entry["schedule_entry"] for entry in listed] == ["changes", "sweep"]
    assert listed[0]["last_run"] < listed[0]["next_run"]


def test_a_complete_refresh_runs_again_though_the_queue_is_never_short(stage: Stage) -> None:
    """A run that lacks nothing has ended, even if no sweep ever noted that."""
    stage.use_schedule('[recent]\ndo = "refresh"\nevery = "2s"\nmax_age = "1d"\n')
    stage.emulator("--movies", "50")
    worker = stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    worker.stop()
    stage.send(cells=[(18, str(year), 1) for year in range(1900, 2026)])
    worker = stage.worker("-Q", "refresh,refresh_cells")  # nobody takes the messages in `cells`
    beat = stage.beat()
    runs: set[datetime] = set()

    def has_run_again() -> bool:
        runs.update(one["claimed_at"] for one in stage.database["schedule"].find({"_id": "recent"}))
        return len(runs) > 2

    wait_for(has_run_again, watching=[worker, beat])
    with redis.Redis.from_url(stage.redis_url) as client:
        assert client.llen("{reelhaul}:cells") == 126


def test_refresh_changes_fetches_what_changed_and_reads_on_from_there(stage: Stage) -> None:
    server = stage.emulator("--movies", "600")
    stage.worker()
    assert stage.reelhaul("refresh", "--changes").returncode == 2  # nothing is stored yet
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    needed, deleted = change_catalogue(server)
    before = len(server.log())
    ran = stage.reelhaul("refresh", "--changes", "--new")
    assert ran.returncode == 0, ran.stderr
    assert f"{needed:,} of {needed:,} movies fetched" in ran.stdout
    assert not_gone(stage) == dated(server)
    assert gone(stage) == deleted
    assert requests_made(server, before)["details"] == needed

    # A movie that comes back is no longer marked as gone.
    back = min(deleted)
    server.change_movies(upsert=[{**stage.stored_movies()[back], "title": "Back again"}])
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 0
    assert not_gone(stage) == dated(server)

    # A gap longer than TMDB's feed.
    pages = list(stage.database["pages"].find({"_id": OF_CHANGES}))
    stage.database["pages"].delete_many({"_id": OF_CHANGES})
    for page in pages:
        stage.database["pages"].insert_one(
            {
                **page,
                "_id": f"changes:{earlier(page['day'], 30)}:{page['page']}",
                "day": earlier(page["day"], 30),
            }
        )
    after_gap = stage.reelhaul("refresh", "--changes")
    assert "29 days of changes are needed" in after_gap.stdout
    assert "full sweep, 0 messages sent" in after_gap.stdout  # every page is younger than the feed is long
    days = {page["day"] for page in stage.database["pages"].find({"_id": OF_CHANGES})}
    assert len(days) == 16  # TMDB's two weeks, today and the day before them; older pages are forgotten
    assert "are needed" not in stage.reelhaul("refresh", "--changes").stdout


def test_refresh_of_a_shrunken_cell_deletes_surplus_page_records_and_keeps_the_movies(stage: Stage) -> None:
    server = stage.emulator("--movies", "3000")
    stage.worker()
    cell = ("--genres", "Drama", "--years", "2018", "--quiet")
    assert stage.reelhaul("backfill", *cell).returncode == 0
    stored = stage.stored_movies()
    assert len(stage.stored_pages()) > 1
    leave = sorted(stored)[: len(stored) - 5]
    server.change_movies(move=[{"id": id_, "release_date": "1990-01-02"} for id_ in leave])
    before = len(server.log())
    assert stage.reelhaul("refresh", "--max-age", "0s", *cell).returncode == 0
    assert set(stage.stored_pages()) == {"18:2018:1"}
    assert set(stage.stored_movies()) == set(stored)
    # Page 1 said that there is no other page; page 2 confirmed it.
    assert [row[4].rpartition(":")[2] for row in server.log(before)] == ["1", "2"]


def test_fresh_compares_the_pages_age_with_max_age_and_retention(stage: Stage) -> None:
    stage.emulator("--movies", "400")
    stage.worker()
    cells = ("--genres", "Drama,Comedy", "--years", "2015..2019")
    assert stage.reelhaul("fresh").returncode == 2  # nothing was requested yet
    assert stage.reelhaul("backfill", *cells, "-q").returncode == 0
    young = stage.reelhaul("fresh", "--max-age", "7d")
    assert (young.returncode, young.stderr) == (0, "")
    assert "fresh: all 10 pages are younger than 7d" in young.stdout

    # As if eight days had passed.
    for record in list(stage.database["pages"].find()):
        earlier = {"$set": {"fetched_at": record["fetched_at"] - timedelta(days=8)}}
        stage.database["pages"].update_one({"_id": record["_id"]}, earlier)
    old = stage.reelhaul("fresh", "--max-age", "7d")
    assert old.returncode == 1
    assert "10 of 10 pages are older than 7d or missing" in old.stdout
    assert stage.reelhaul("fresh").returncode == 0  # 180 days have not passed
    assert stage.reelhaul("fresh", REELHAUL_RETENTION="5d").returncode == 1
    assert stage.reelhaul("fresh", "--years", "2000").returncode == 1  # never requested
    assert stage.reelhaul("fresh", "--max-age", "soon").returncode == 2
    facts = json.loads(stage.reelhaul("fresh", "--max-age", "7d", "--json").stdout)
    assert (facts["fresh"], facts["stale"], facts["pages"], facts["max_age"]) == (False, 10, 10, "7d")

    assert stage.reelhaul("refresh", "--max-age", "7d", *cells, "-q").returncode == 0
    assert stage.reelhaul("fresh", "--max-age", "7d", "--quiet").returncode == 0


def test_refresh_without_genres_keeps_to_those_that_were_requested_for_the_years(stage: Stage) -> None:
    server = stage.emulator("--movies", "400")
    stage.worker()
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2018..2019", "-q").returncode == 0
    assert stage.reelhaul("backfill", "--genres", "War", "--years", "2017", "-q").returncode == 0
    stored, before = set(stage.stored_pages()), len(server.log())
    assert stage.reelhaul("refresh", "--max-age", "0s", "--years", "2018..2019", "-q").returncode == 0
    pages = {"18:2018-01-01/2018-12-31:1", "18:2019-01-01/2019-12-31:1"}
    assert {row[4] for row in server.log(before)} == pages
    assert set(stage.stored_pages()) == stored
    nothing = stage.reelhaul("refresh")
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("reelhaul: no backfill asked for these years: name genres with --genres")


def test_details_are_fetched_once_and_keep_their_parts_when_refreshed(stage: Stage) -> None:
    rejected = "status=400:match=/movie/8000002"
    server = stage.emulator("--movies", "120", "--fault", rejected)
    worker = stage.worker()
    some = next(iter(server.movies().values()))
    server.change_movies(
        upsert=[{**some, "id": 8_000_000 + n, "release_date": "2001-01-01"} for n in range(4)]
    )
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    server.change_movies(delete=[8_000_001])
    ran = stage.reelhaul("details", "--append", "credits", "-q")
    assert (ran.returncode, ran.stderr) == (1, "")  # one is in quarantine
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

    # Nothing is fetched twice; a movie that changed keeps its parts.
    before = len(server.log())
    assert stage.reelhaul("details", "--append", "credits", "--missing", "-q").returncode == 1
    assert requests_made(server, before) == {"details": 1}  # the one that TMDB rejects
    server.change_movies(upsert=[{**some, "id": 8_000_003, "title": "Renamed", "release_date": "2001-01-01"}])
    assert stage.reelhaul("refresh", "--changes", "-q").returncode == 1  # TMDB rejects the same one again
    renamed = stage.database["details"].find_one({"_id": 8_000_003})
    assert renamed is not None
    assert renamed["title"] == "Renamed" == stage.stored_movies()[8_000_003]["title"]
    assert renamed["credits"]["cast"]

    server.configure(faults=[])
    assert "1 enqueued" in stage.reelhaul("failures", "retry", "--key", "movie:8000002").stdout
    wait_for(lambda: stage.reelhaul("failures", "--json").stdout == "[]\n", watching=[worker])
    # Its last failure was of a change; the details that were asked for are missing now.
    assert stage.reelhaul("schedule", "run", "sweep").returncode == 0
    wait_for(lambda: stage.database["details"].find_one({"_id": 8_000_002}) is not None, watching=[worker])


def test_a_404_that_is_not_in_tmdbs_words_marks_no_movie_as_gone(stage: Stage) -> None:
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
    assert stage.database["details"].count_documents({}) == len(not_gone(stage))


def test_changed_movies_are_fetched_though_redis_lost_every_message(stage: Stage) -> None:
    server = stage.emulator("--movies", "300")
    assert stage.reelhaul("backfill", *ALL_YEARS, "--detach").returncode == 0
    worker = stage.worker()
    assert stage.reelhaul("backfill", *ALL_YEARS).returncode == 0
    worker.send(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    needed, _ = change_catalogue(server)
    before = len(server.log())
    assert stage.reelhaul("refresh", "--changes", "--new", "--detach").returncode == 0
    with redis.Redis.from_url(stage.redis_url) as client:
        client.flushdb()
    stage.worker()
    stage.beat()
    wait_for(lambda: not_gone(stage) == dated(server))
    assert requests_made(server, before)["details"] == needed


def test_expire_deletes_old_pages_which_are_missing_then(stage: Stage) -> None:
    stage.emulator("--movies", "300")
    stage.worker()
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2015..2019", "-q").returncode == 0
    assert "nothing is older than 180d" in stage.reelhaul("expire", "--yes").stdout
    [page, *_] = stage.stored_pages()
    record = stage.database["pages"].find_one({"_id": page})
    assert record is not None
    year_ago = {"$set": {"fetched_at": record["fetched_at"] - timedelta(days=365)}}
    stage.database["pages"].update_one({"_id": page}, year_ago)
    status = stage.reelhaul("status")
    assert "1 page" in status.stdout
    assert "REELHAUL_RETENTION" in status.stdout
    assert "1 pages" in stage.reelhaul("expire", "--dry-run").stdout
    assert page in stage.stored_pages()
    assert stage.reelhaul("expire", "--yes").returncode == 0
    assert page not in stage.stored_pages()
    assert stage.progress()["missing"] == 1
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2015..2019", "-q").returncode == 0
    assert page in stage.stored_pages()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("refresh", "--max-age", "soon"), "--max-age 'soon': expected a length of time"),
        (("refresh", "--changes", "--since", "x"), "--since 'x': expected a length of time"),
        (("refresh", "--since", "3d"), "--since '3d': needs --changes"),
        (("refresh", "--changes", "--years", "1999"), "--changes covers all movies"),
        (("backfill", "--no-genre", "--genres", "Drama"), "--no-genre covers every genre"),
        (("details", "--append", "crew"), "--append: unknown part 'crew'; expected some of"),
        (("details", "--from-ids"), "no list of ids is loaded"),
        (("schedule", "run", "nothing"), "schedule entry 'nothing': expected one of changes"),
        (("failures", "show", "movie:x"), "key 'movie:x': expected, for instance, 18:1999:3"),
        (("movie", " "), "TITLE is empty"),
    ],
)
def test_an_invalid_argument_is_one_line(stage: Stage, arguments: tuple[str, ...], message: str) -> None:
    stage.emulator("--movies", "10")
    failed = stage.reelhaul(*arguments)
    assert failed.returncode == 2
    assert message in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_beat_and_worker_do_not_start_with_an_invalid_schedule(stage: Stage) -> None:
    stage.use_schedule('[changes]\ndo = "changes"\nevery = "hourly"\n')
    for process in (stage.beat(), stage.worker()):
        assert process.wait(PATIENCE_S) == 2
        assert "schedule.toml, line 3: every = 'hourly': expected a length of time" in process.log_tail()
        assert "Traceback" not in process.log_text()
    listed = stage.reelhaul("schedule")
    assert (listed.returncode, listed.stderr.count("\n")) == (2, 1)
    assert "line 3" in listed.stderr
