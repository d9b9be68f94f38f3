"""The commands beyond pages: a search, the popular movies, genres, years as a whole."""

import json

import pytest

from tests.stage import Stage, catalogue, page_requests

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_without_a_genre_each_year_is_fetched_as_a_whole(stage: Stage) -> None:
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
    told = stage.reelhaul("status", COLUMNS="80")
    assert "any genre, 2015..2019" in " ".join(told.stdout.split())
    assert stage.reelhaul("verify").returncode == 0


def test_popular_movies_are_stored_and_no_page_is_marked(stage: Stage) -> None:
    server = stage.emulator("--movies", "300", "--fault", "status=503:count=1:match=popular")
    ran = stage.reelhaul("popular", "--pages", "3")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "60 movies stored, 60 of them new\n"
    best = sorted(catalogue(server).values(), key=lambda movie: -movie["popularity"])[:60]
    assert stage.stored_movies() == {movie["id"]: movie for movie in best}
    assert stage.stored_pages() == {}
    assert "0 of them new" in stage.reelhaul("popular", "--pages", "2").stdout
    # No more pages than there are.
    assert "300 movies stored" in stage.reelhaul("popular", "--pages", "50").stdout


def test_a_search_shows_what_tmdb_finds_and_stores_nothing(stage: Stage) -> None:
    server = stage.emulator("--movies", "200")
    wanted = next(iter(catalogue(server).values()))
    found = stage.reelhaul("movie", wanted["title"])
    assert found.returncode == 0, found.stderr
    assert str(wanted["id"]) in found.stdout
    told = json.loads(stage.reelhaul("movie", wanted["title"], "--json").stdout)
    assert wanted in told
    nothing = stage.reelhaul("movie", "[no] such title")
    assert (nothing.returncode, nothing.stdout) == (1, "TMDB finds no movie for '[no] such title'\n")
    assert stage.stored_movies() == {}


def test_genres_are_counted_and_drawn(stage: Stage) -> None:
    server = stage.emulator("--movies", "2000")
    assert stage.reelhaul("genres").returncode == 2  # nothing is stored yet
    stage.worker()
    assert stage.reelhaul("backfill", "--years", "2018..2019", "-q").returncode == 0
    stored = stage.stored_movies().values()
    told = json.loads(stage.reelhaul("genres", "--json").stdout)
    assert told["movies"] == len(stored)
    counts = {genre["id"]: genre["movies"] for genre in told["genres"]}
    assert counts[18] == sum(18 in movie["genre_ids"] for movie in stored)
    assert len(counts) == 19
    together = sum({18, 35} <= set(movie["genre_ids"]) for movie in stored)
    assert together == next(
        pair["movies"] for pair in told["pairs"] if set(pair["genres"]) == {"Drama", "Comedy"}
    )
    shown = stage.reelhaul("genres", "--pairs", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "of the rarer" in shown
    drawn = stage.reelhaul("genres", "--png", "pairs.png")
    assert (drawn.returncode, drawn.stdout, drawn.stderr) == (0, "", "")
    assert (stage.folder / "pairs.png").read_bytes().startswith(b"\x89PNG")
    assert server.stats()["by_status"] == {"200": server.stats()["arrivals"]}
