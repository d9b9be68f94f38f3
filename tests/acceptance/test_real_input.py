"""A backfill of 4,800 real movies, all their genres and years, stores every field of each."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.comparison import page_requests
from tests.support.stage import Stage

CATALOGUE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "tmdb5000.jsonl.gz"
#: TMDB's genre ids; the catalogue also has old ones that discover no longer knows.
GENRES = {28, 12, 16, 35, 80, 99, 18, 10751, 14, 36, 27, 10402, 9648, 10749, 878, 10770, 53, 10752, 37}

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        not CATALOGUE.is_file(), reason="needs the catalogue ../shared/data/tmdb5000.jsonl.gz"
    ),
]


@pytest.mark.timeout(240)
def test_every_movie_with_a_genre_and_a_date_is_stored_as_it_is(stage: Stage) -> None:
    with gzip.open(CATALOGUE, "rt", encoding="utf-8") as lines:
        movies: dict[int, dict[str, Any]] = {movie["id"]: movie for movie in map(json.loads, lines)}
    wanted = {
        id_
        for id_, movie in movies.items()
        if movie["release_date"] and GENRES.intersection(movie["genre_ids"])
    }
    years = sorted({movies[id_]["release_date"][:4] for id_ in wanted})
    assert len(wanted) > 4_700
    server = stage.emulator("--catalog", str(CATALOGUE))
    stage.environment.update(REELHAUL_RATE="300", REELHAUL_CAPACITY="30")
    stage.patience_s = 200
    stage.worker()
    stage.worker()
    ended = stage.reelhaul("backfill", "--genres", "all", "--years", ",".join(years))
    assert ended.returncode == 0, ended.stderr

    cells, progress = len(GENRES) * len(years), stage.progress()
    assert (progress["cells"], progress["missing"], progress["quarantined"]) == (cells, 0, 0)
    stored = stage.stored_movies()
    assert stored.keys() == wanted
    different = [id_ for id_ in wanted if json.dumps(stored[id_]) != json.dumps(movies[id_])]
    assert different == []
    requests = page_requests(server)
    assert requests.keys() == stage.stored_pages().keys()
    assert len(requests) == progress["pages_planned"] >= cells
