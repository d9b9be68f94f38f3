"""The comparison's judge and its server of canned pages, with one worker run through them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pymongo.database import Database

from benchmarks.compare.catalogue import FIRST_YEAR, GENRE, Catalogue
from benchmarks.compare.measure import Stage, full_speed, lost_pages
from benchmarks.compare.runners import Reelhaul
from benchmarks.compare.servers import StaticServer
from sandbox.servers import EmbeddedMongo, EmbeddedRedis

CATALOGUE = Catalogue(2, 2)


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[StaticServer]:
    """The catalogue's pages, canned."""
    keys = tmp_path / "keys.txt"
    keys.write_text("\n".join(CATALOGUE.keys))
    with StaticServer(CATALOGUE.write(tmp_path / "movies.jsonl"), keys) as server:
        yield server


def test_a_page_has_its_twenty_movies_and_is_logged_once(pages: StaticServer) -> None:
    query = f"with_genres={GENRE}&primary_release_year={FIRST_YEAR}&page=2"
    page = requests.get(f"{pages.base_url}/discover/movie?{query}", timeout=10).json()
    movies = sorted(page["results"], key=lambda movie: int(movie["id"]))
    assert movies == list(CATALOGUE.movies())[20:40]
    assert page["total_pages"] == 2
    [(_, status, key)] = pages.arrivals()
    assert (status, key) == (200, f"{GENRE}:{FIRST_YEAR}:2")
    pages.reset()
    assert pages.count() == 0


def test_a_page_is_lost_without_its_record_or_with_a_wrong_movie(database: Database[dict[str, Any]]) -> None:
    movies = list(CATALOGUE.movies())
    database["movies"].insert_many([{"_id": movie["id"], **movie, "_meta": {}} for movie in movies])
    in_order = [f"{GENRE}:{FIRST_YEAR + year}:{page}" for year in range(2) for page in (1, 2)]
    for number, key in enumerate(in_order):
        ids = [movie["id"] for movie in movies[20 * number : 20 * number + 20]]
        database["pages"].insert_one({"_id": key, "movie_ids": ids})
    assert lost_pages(CATALOGUE, database) == 0
    database["movies"].delete_one({"_id": movies[0]["id"]})
    assert lost_pages(CATALOGUE, database) == 1
    database["movies"].update_one({"_id": movies[25]["id"]}, {"$set": {"title": "another"}})
    assert lost_pages(CATALOGUE, database) == 2
    database["pages"].delete_one({"_id": in_order[3]})
    assert lost_pages(CATALOGUE, database) == 3


def test_a_run_of_reelhaul_stores_everything(
    pages: StaticServer, mongo_server: EmbeddedMongo, redis_server: EmbeddedRedis
) -> None:
    stage = Stage(pages, mongo_server, redis_server, CATALOGUE)
    figures = full_speed(stage, Reelhaul("Reelhaul", "threads", 4))
    assert figures["complete"]
    assert figures["pages"] == CATALOGUE.size == 4
    assert figures["peak_mb"] > 10
