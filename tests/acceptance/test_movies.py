"""The commands `movie`, `popular`, `genres` and `details`, and `backfill --no-genre`."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis

from tests.support.comparison import catalogue, page_requests
from tests.support.stage import Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_no_genre_fetches_each_year_as_a_whole(stage: Stage) -> None:
    server = stage.emulator("--movies", "1500")
    stage.worker()
    assert stage.reelhaul("backfill", "--no-genre", "--years", "2015..2019", "-q").returncode == 0
    years = {
        id_: movie
        for id_, movie in catalogue(server).items()
        if movie["release_date"][:4] in ("2015", "2016", "2017", "2018", "2019")
    }
    assert any(not movie["genre_ids"] for movie in years.values())
    assert stage.stored_movies() == years
    assert {key.partition(":")[0] for key in stage.stored_pages()} == {"0"}
    assert set(page_requests(server).values()) == {1}
    shown = stage.reelhaul("status", COLUMNS="80")
    assert "any genre, 2015..2019" in " ".join(shown.stdout.split())
    assert stage.reelhaul("verify").returncode == 0


def popular_ids(stage: Stage, pages: int) -> list[int]:
    """The ids on the first pages of popular movies, in TMDB's order."""
    stored = stage.stored_pages()
    return [id_ for number in range(1, pages + 1) for id_ in stored.get(f"popular:{number}", [])]


def test_popular_keeps_the_order_whatever_is_fetched_later(stage: Stage) -> None:
    server = stage.emulator("--movies", "300", "--fault", "status=503:count=1:match=popular")
    stage.worker()
    ran = stage.reelhaul("popular", "--pages", "3")
    assert ran.returncode == 0, ran.stderr
    assert "3 of 3 pages stored; 60 movies stored in all" in ran.stdout
    best = sorted(catalogue(server).values(), key=lambda movie: -movie["popularity"])
    assert stage.stored_movies() == {movie["id"]: movie for movie in best[:60]}
    assert popular_ids(stage, 3) == [movie["id"] for movie in best[:60]]
    # Pages of today are not fetched again; TMDB's last page is the last.
    before = len(server.log())
    assert stage.reelhaul("popular", "--pages", "2", "-q").returncode == 0
    assert len(server.log()) == before
    assert "15 of 15 pages stored" in stage.reelhaul("popular", "--pages", "50").stdout
    assert len(server.log()) == before + 12
    assert stage.reelhaul("backfill", "--no-genre", "--years", "1870..2100", "-q").returncode == 0
    assert popular_ids(stage, 15) == [movie["id"] for movie in best]
    assert stage.reelhaul("popular", "--pages", "1", "--max-age", "0s", "-q").returncode == 0
    assert server.stats()["by_kind"]["popular"] == 1 + 15 + 1


def test_a_popular_page_that_cannot_be_stored_is_quarantined_and_retried(stage: Stage) -> None:
    server = stage.emulator("--movies", "100", "--fault", "hostile=bigint:match=popular.*page=2")
    worker = stage.worker()
    ran = stage.reelhaul("popular", "--pages", "3")
    assert ran.returncode == 1
    assert "2 of 3 pages stored, 1 in quarantine" in ran.stdout
    [failure] = json.loads(stage.reelhaul("failures", "--json").stdout)
    assert (failure["_id"], failure["class"]) == ("popular:2", "unstorable")
    server.configure(faults=[])
    assert "1 enqueued" in stage.reelhaul("failures", "retry", "--class", "unstorable").stdout
    wait_for(lambda: len(popular_ids(stage, 3)) == 60, watching=[worker])
    assert json.loads(stage.reelhaul("failures", "--json").stdout) == []


def test_popular_pages_lost_by_the_broker_are_swept(stage: Stage) -> None:
    stage.emulator("--movies", "200")
    assert stage.reelhaul("popular", "--pages", "5", "--detach").returncode == 0
    with redis.Redis.from_url(stage.redis_url) as client:
        client.flushdb()
    worker = stage.worker()
    assert stage.reelhaul("schedule", "run", "sweep").returncode == 0
    wait_for(lambda: len(popular_ids(stage, 5)) == 100, watching=[worker])


def test_search_shows_what_tmdb_finds_and_stores_nothing(stage: Stage) -> None:
    server = stage.emulator("--movies", "200")
    wanted = next(iter(catalogue(server).values()))
    found = stage.reelhaul("movie", wanted["title"])
    assert found.returncode == 0, found.stderr
    assert str(wanted["id"]) in found.stdout
    assert wanted in json.loads(stage.reelhaul("movie", wanted["title"], "--json").stdout)
    nothing = stage.reelhaul("movie", "[no] such title")
    assert (nothing.returncode, nothing.stdout) == (1, "TMDB finds no movie for '[no] such title'\n")
    assert stage.stored_movies() == {}


def test_one_movie_is_shown_from_tmdb_or_as_it_is_stored(stage: Stage) -> None:
    server = stage.emulator("--movies", "40")
    item = next(iter(catalogue(server).values()))
    id_ = str(item["id"])
    shown = stage.reelhaul("movie", id_)
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.split())
    whole = json.loads(stage.reelhaul("movie", id_, "--json").stdout)
    assert {"id", "budget", "runtime", "genres", "overview", "title", "imdb_id"} <= whole.keys()
    for text in (item["title"], f"${whole['budget']:,}", whole["genres"][0]["name"], item["overview"]):
        assert " ".join(text.split()) in words
    assert words.endswith("from TMDB just now, not stored")
    assert stage.database["details"].count_documents({}) == stage.database["movies"].count_documents({}) == 0

    stage.worker()
    assert stage.reelhaul("popular", "--pages", "2", "-q").returncode == 0
    assert stage.reelhaul("details", "--append", "credits", "-q").returncode == 0
    arrivals = server.stats()["arrivals"]
    stored = stage.reelhaul("movie", id_, "--json", TMDB_TOKEN="")
    assert json.loads(stored.stdout) == {**whole, "credits": json.loads(stored.stdout)["credits"]}
    assert "details stored on 20" in stage.reelhaul("movie", id_).stdout
    assert server.stats()["arrivals"] == arrivals
    # Nothing older than the retention counts.
    outdated = {"_meta.fetched_at": datetime.now(UTC) - timedelta(days=181)}
    stage.database["details"].update_one({"_id": item["id"]}, {"$set": outdated})
    assert "not stored" in stage.reelhaul("movie", id_).stdout


def test_a_number_is_an_id_unless_it_is_called_a_title(stage: Stage) -> None:
    server = stage.emulator("--movies", "40")
    server.change_movies(upsert=[{**next(iter(catalogue(server).values())), "id": 900_001, "title": "1917"}])
    missing = stage.reelhaul("movie", "1917")
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "TMDB has no movie 1917\n", "")
    found = stage.reelhaul("movie", "1917", "--title", "--json")
    assert [movie["id"] for movie in json.loads(found.stdout)] == [900_001]
    assert "open" in stage.reelhaul("limit").stdout


def test_genres_have_names_before_the_first_backfill(stage: Stage) -> None:
    server = stage.emulator("--movies", "300")
    stage.worker()
    assert stage.reelhaul("popular", "--pages", "3", "-q").returncode == 0
    stage.database["genres"].drop()
    without_key = stage.reelhaul("genres", "--pairs", TMDB_TOKEN="")
    assert (without_key.returncode, without_key.stderr) == (0, "")
    assert "genre 18" in without_key.stdout
    shown = stage.reelhaul("genres", "--pairs")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Drama" in shown.stdout
    assert "genre " not in shown.stdout.split("\n", 1)[1]
    stage.database["genres"].drop()
    figures = json.loads(stage.reelhaul("genres", "--json").stdout)
    assert len(figures["genres"]) == 19
    stage.database["genres"].drop()
    title = next(iter(catalogue(server).values()))["title"]
    assert "genre " not in stage.reelhaul("movie", title).stdout.split("\n", 1)[1].split("\n\n")[0]
    stage.database["genres"].drop()
    away = stage.reelhaul("genres", TMDB_TOKEN="wrong-token-of-nobody")  # noqa: S106 -- the emulator rejects it
    assert away.returncode == 0
    assert "genre 18" in away.stdout
    assert away.stderr.startswith("names of genres are not up to date: TMDB rejects the key")


def test_genres_are_counted_and_drawn(stage: Stage) -> None:
    server = stage.emulator("--movies", "2000")
    assert stage.reelhaul("genres", TMDB_TOKEN="").returncode == 2  # nothing is stored or known yet
    stage.worker()
    assert stage.reelhaul("backfill", "--years", "2018..2019", "-q").returncode == 0
    stored = stage.stored_movies().values()
    figures = json.loads(stage.reelhaul("genres", "--json").stdout)
    assert figures["movies"] == len(stored)
    counts = {genre["id"]: genre["movies"] for genre in figures["genres"]}
    assert counts[18] == sum(18 in movie["genre_ids"] for movie in stored)
    assert len(counts) == 19
    together = sum({18, 35} <= set(movie["genre_ids"]) for movie in stored)
    assert together == next(
        pair["movies"] for pair in figures["pairs"] if set(pair["genres"]) == {"Drama", "Comedy"}
    )
    shown = stage.reelhaul("genres", "--pairs", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "of the rarer" in shown
    drawn = stage.reelhaul("genres", "--png", "pairs.png")
    assert (drawn.returncode, drawn.stdout, drawn.stderr) == (0, "", "")
    assert (stage.folder / "pairs.png").read_bytes().startswith(b"\x89PNG")
    assert server.stats()["by_status"] == {"200": server.stats()["arrivals"]}


def test_wrong_key_of_a_command_does_not_stop_the_fleet(stage: Stage) -> None:
    stage.emulator("--movies", "50")
    ended = stage.reelhaul("movie", "the", TMDB_TOKEN="wrong-token-of-nobody")  # noqa: S106 -- the emulator rejects it
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "the key (HTTP 401" in ended.stderr
    assert "open" in stage.reelhaul("limit").stdout
    found_none = stage.reelhaul("movie", "the", "--json")
    assert (found_none.returncode, found_none.stdout, found_none.stderr) == (1, "[]\n", "")


def test_details_ignore_an_impossible_id_and_fetch_again_with_max_age_0s(stage: Stage) -> None:
    server = stage.emulator("--movies", "20")
    stage.worker()
    assert stage.reelhaul("popular", "--pages", "1", "-q").returncode == 0
    kept = stage.database["movies"].find_one()
    assert kept is not None
    stage.database["movies"].insert_one({**kept, "_id": -5, "id": -5})
    for _ in range(2):
        assert stage.reelhaul("details", "--max-age", "0s", "-q").returncode == 0
    assert stage.database["details"].count_documents({}) == 20
    assert server.stats()["by_kind"]["details"] == 40


def test_detached_details_and_a_schedule_entry_finish_without_beat(stage: Stage) -> None:
    stage.emulator("--movies", "100")
    worker = stage.worker()
    assert stage.reelhaul("backfill", "--no-genre", "--years", "1870..2100", "-q").returncode == 0
    assert stage.reelhaul("details", "--detach", "-q").returncode == 0
    stored = stage.database["movies"].count_documents({})
    wait_for(lambda: stage.database["details"].count_documents({}) == stored, watching=[worker])
    for _ in range(2):
        ran = stage.reelhaul("schedule", "run", "recent")
        assert ran.returncode == 0, ran.stdout
        wait_for(lambda: "running" not in stage.reelhaul("schedule").stdout, watching=[worker])
