"""`reelhaul plan`: what it says before a run, and what the run then takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.comparison import page_requests
from tests.support.stage import Stage

pytestmark = pytest.mark.timeout(120)

TMDB5000 = Path(__file__).resolve().parents[3] / "shared" / "data" / "tmdb5000.jsonl.gz"
GENRES = 19


def planned(stage: Stage, *options: str) -> dict[str, Any]:
    ended = stage.reelhaul("plan", *options, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(
    "catalogue",
    [
        pytest.param(
            ("--catalog", str(TMDB5000)),
            id="tmdb5000",
            marks=pytest.mark.skipif(
                not TMDB5000.is_file(), reason="needs the catalogue ../shared/data/tmdb5000.jsonl.gz"
            ),
        ),
        pytest.param(("--movies", "8000"), id="synthetic"),
    ],
)
def test_a_run_takes_what_a_probe_says(stage: Stage, catalogue: tuple[str, ...]) -> None:
    server = stage.emulator(*catalogue)
    years = ("--years", "2003..2016")
    probed = planned(stage, *years, "--probe")
    assert probed["cells"] == probed["unknown"] == GENRES * 14
    assert sum(page_requests(server).values()) == probed["probe_requests"] < 200
    assert stage.database["pages"].count_documents({}) == 0
    stage.worker()
    server.reset()
    assert stage.reelhaul("backfill", *years, "-q").returncode == 0
    actual = sum(page_requests(server).values())
    assert abs(probed["requests"] - actual) <= 0.05 * actual
    assert probed["seconds"] == pytest.approx(probed["requests"] / 500, abs=0.1)
    movies = len(stage.stored_movies())
    assert probed["movies"] == pytest.approx(movies, rel=0.1)
    items = sum(map(len, stage.stored_pages().values()))
    assert probed["list_items"] == pytest.approx(items, rel=0.05)

    again = planned(stage, *years)
    assert (again["basis"], again["requests"], again["low"], again["high"]) == ("known", 0, 0, 0)
    assert again["pages_stored"] == actual
    # Too old: each page is fetched again, and how many there are is known.
    old = planned(stage, *years, "--max-age", "0s")
    assert (old["basis"], old["requests"]) == ("known", actual)
    # By date each movie comes once, those without a genre as well.
    server.reset()
    assert stage.reelhaul("backfill", "--by", "date", *years, "-q").returncode == 0
    assert probed["by_date_requests"] == sum(page_requests(server).values())


def test_a_plan_without_a_probe_asks_for_no_page_and_says_how_rough_it_is(stage: Stage) -> None:
    server = stage.emulator("--movies", "100")
    ended = stage.reelhaul("plan", "--years", "1990..2025")
    assert ended.returncode == 0, ended.stderr
    assert page_requests(server) == {}
    assert ended.stdout.startswith("684 cells: 19 genres x 36 years; 684 of unknown length\n")
    assert "lengths by a table of movies a year, easily wrong by a factor of 2; " in ended.stdout
    assert "cheaper: about " in ended.stdout
    assert stage.reelhaul("backfill", "--years", "1990..2025", "--dry-run").stdout == ended.stdout


def test_what_is_stored_corrects_the_table(stage: Stage) -> None:
    stage.emulator("--movies", "3000")
    stage.worker()
    assert stage.reelhaul("backfill", "--years", "2014..2015", "-q").returncode == 0
    found = planned(stage, "--years", "2012..2017")
    assert (found["basis"], found["unknown"]) == ("stored", 4 * GENRES)
    assert found["pages_missing"] == 0
    assert found["low"] <= found["requests"] <= found["high"]
    exact = planned(stage, "--years", "2012..2017", "--probe")
    assert exact["low"] == exact["requests"] == exact["high"]
    assert found["low"] <= exact["requests"] <= found["high"]


def test_one_genre_comes_once_and_no_plan_is_cheaper(stage: Stage) -> None:
    stage.emulator("--movies", "3000")
    found = planned(stage, "--genres", "War", "--years", "2000..2010", "--probe")
    assert (found["unknown"], found["by_date_requests"]) == (11, None)
    assert found["movies"] == found["list_items"]
    assert found["probe_requests"] == 22
