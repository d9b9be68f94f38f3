"""Estimates against catalogues of which every cell is known."""

import gzip
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

import pytest

from producer.estimate import (
    MOVIES,
    MOVIES_SINCE,
    Estimate,
    expected_requests,
    from_probe,
    from_table,
    movies_of_year,
    requests_for,
)
from producer.plan import plan_cells
from sandbox.emulator.synthetic import synthetic_movies
from worker.keys import ANY_GENRE, GENRE_IDS, Cell
from worker.windows import Window

TMDB5000 = Path(__file__).resolve().parents[3] / "shared" / "data" / "tmdb5000.jsonl.gz"


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 -- a sample, no secret


class Catalogue:
    """Counts the movies of cells as TMDB would, and how often it was asked."""

    def __init__(self, movies: Iterable[tuple[str, Sequence[int]]]) -> None:
        """Of each movie the date and the genres."""
        self.asked = 0
        self._counts = Counter[tuple[int, int]]()
        for date, genre_ids in movies:
            if date:
                self._counts.update((genre_id, int(date[:4])) for genre_id in (ANY_GENRE, *genre_ids))

    def __call__(self, cells: Sequence[Cell]) -> list[int]:
        self.asked += len(cells)
        return [self.movies(cell) for cell in cells]

    def movies(self, cell: Cell) -> int:
        window = Window.parse(cell.window)
        return sum(
            self._counts[cell.genre_id, year] for year in range(window.first.year, window.last.year + 1)
        )

    def requests(self, cells: Sequence[Cell]) -> int:
        """What fetching the cells takes; no cell here has more than 500 pages."""
        return sum(max(1, math.ceil(self.movies(cell) / 20)) for cell in cells)


def tmdb5000() -> Catalogue:
    if not TMDB5000.is_file():
        pytest.skip(f"{TMDB5000} is not here: real movies are not part of the project")
    with gzip.open(TMDB5000, "rt", encoding="utf-8") as lines:
        movies = [json.loads(line) for line in lines]
    return Catalogue((movie["release_date"], movie["genre_ids"]) for movie in movies)


def synthetic() -> Catalogue:
    return Catalogue((movie.release_date, movie.genre_ids) for movie in synthetic_movies(20_000, 7))


@pytest.fixture(scope="module", params=[tmdb5000, synthetic])
def catalogue(request: pytest.FixtureRequest) -> Catalogue:
    build: Callable[[], Catalogue] = request.param
    return build()


@pytest.mark.parametrize("years", [range(1990, 2027), range(1916, 2027)], ids=["since-1990", "all"])
def test_a_probe_is_within_five_percent(catalogue: Catalogue, years: range) -> None:
    cells = plan_cells(GENRE_IDS, years)
    actual, within = catalogue.requests(cells), 0
    for seed in range(100):
        catalogue.asked = 0
        found = from_probe(cells, catalogue, seeded(seed))
        assert abs(found.requests - actual) <= 0.05 * actual, seed
        assert found.asked == catalogue.asked <= len(years) + 20 + 150
        within += found.low <= actual <= found.high
    assert within >= 88, f"{within} of 100 intervals hold the truth"
    assert found.by_date == catalogue.requests([Cell(ANY_GENRE, str(year)) for year in years])
    items = sum(map(catalogue.movies, cells))
    assert found.items == pytest.approx(items, rel=0.05)
    assert 2 < found.items / found.movies < 3


def test_few_cells_are_all_asked_for(catalogue: Catalogue) -> None:
    cells = plan_cells([18, 35], range(2000, 2011))
    found = from_probe(cells, catalogue, seeded(1))
    assert found.requests == found.low == found.high == catalogue.requests(cells)
    assert found.asked == 11 + 22


def test_years_that_are_far_apart(catalogue: Catalogue) -> None:
    cells = plan_cells(GENRE_IDS, [1940, 1950, 1960, 1970, *range(1999, 2007), 2016])
    actual = catalogue.requests(cells)
    for seed in range(50):
        assert abs(from_probe(cells, catalogue, seeded(seed)).requests - actual) <= 0.05 * actual


def test_whole_years_take_what_each_year_states(catalogue: Catalogue) -> None:
    cells = plan_cells([ANY_GENRE], range(1990, 2017))
    found = from_probe(cells, catalogue, seeded(1))
    assert found.requests == found.by_date == catalogue.requests(cells)
    assert found.asked == 27
    assert found.items == found.movies == sum(map(catalogue.movies, cells))


@pytest.mark.parametrize(
    ("movies", "requests"),
    [(0, 1), (1, 1), (20, 1), (21, 2), (10_000, 500), (10_001, 503), (20_000, 1_001), (20_001, 3 + 4 * 251)],
)
def test_requests_for_a_cell(movies: int, requests: int) -> None:
    assert requests_for(movies) == requests


@pytest.mark.parametrize("mean", [0, 0.5, 3, 18, 20, 21, 55, 400, 9_000])
def test_expected_requests_are_the_mean(mean: float) -> None:
    random = seeded(5)
    drawn = [requests_for(_poisson(mean, random)) for _ in range(4_000)]
    assert expected_requests(mean) == pytest.approx(sum(drawn) / len(drawn), rel=0.03)


def _poisson(mean: float, random: Random) -> int:
    if mean > 200:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    number, product, limit = 0, random.random(), math.exp(-mean)
    while product > limit:
        number, product = number + 1, product * random.random()
    return number


def test_the_table_adds_up_to_what_was_recorded() -> None:
    assert sum(map(movies_of_year, range(1600, 2027))) == pytest.approx(MOVIES)
    assert sum(map(movies_of_year, range(2017, 2027))) == pytest.approx(MOVIES_SINCE)
    assert movies_of_year(2030) == 0


def test_the_table_is_corrected_by_what_is_known(catalogue: Catalogue) -> None:
    cells = plan_cells(GENRE_IDS, range(1990, 2017))
    known = {cell: catalogue.movies(cell) for cell in cells[::5]}
    unknown = [cell for cell in cells if cell not in known]
    actual = catalogue.requests(unknown)
    rough, corrected = from_table(unknown, {}), from_table(unknown, known)
    assert abs(corrected.requests - actual) < 0.3 * actual < abs(rough.requests - actual)
    assert corrected.low < actual < corrected.high


def test_nothing_takes_nothing() -> None:
    assert from_probe([], lambda _: [], seeded(1)) == Estimate()
