"""Catalogues built to hurt, read as the fleet reads them: every movie that TMDB shows anywhere is reached."""

import random
from collections.abc import Iterator

import pytest

from sandbox.emulator.catalog import Catalog, Movie
from sandbox.emulator.requests import discover_query
from worker.keys import MAX_PAGE, PAGE_SIZE, Cell
from worker.tmdb import endpoints

YEAR = Cell(18, "2024")
HEAP = "2024-01-01"
DAY = Cell(18, f"{HEAP}/{HEAP}")


def movies(*languages: tuple[str, int], day: str | None = HEAP, titles: int = 3_000) -> Iterator[Movie]:
    """So many movies of each language on a day (None: on any of the year), of so many titles."""
    dice = random.Random(7)  # noqa: S311 -- a catalogue, not secrets
    for language, number in languages:
        for _ in range(number):
            date = day or f"2024-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"
            id_, title = dice.getrandbits(40), f"{language} {dice.randrange(titles)}"[dice.randrange(3) :]
            yield Movie(
                id_, b"", (18,), date, title, title, 0, 0, 0, 0, adult=False, original_language=language
            )


class Tmdb:
    """Pages of a catalogue, none above MAX_PAGE; counts the requests."""

    def __init__(self, found: Iterator[Movie]) -> None:
        self.catalog = Catalog(found)
        self.requests = 0

    def page(self, cell: Cell, number: int) -> tuple[set[int], int, int]:
        """The ids on it, and the totals."""
        assert 1 <= number <= MAX_PAGE
        self.requests += 1
        query = {name: str(value) for name, value in endpoints.discover(cell.page(number)).query.items()}
        found = self.catalog.select(discover_query(query))
        rows = found[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        return {movie.id for movie in rows}, max(1, -(-len(found) // PAGE_SIZE)), len(found)

    def haul(self, cell: Cell) -> set[int]:
        """The movies on all pages of the cell and of its parts."""
        found, pages, _ = self.page(cell, 1)
        for number in cell.pages(pages)[1:]:
            found |= self.page(cell, number)[0]
        return found.union(*(self.haul(part) for part in cell.parts(pages)))

    def all(self) -> set[int]:
        return {movie.id for movie in self.catalog.movies()}


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([*movies(("en", 10_001))], id="one movie more than 500 pages show"),
        pytest.param([*movies(("en", 12_000))], id="a day of 12,000"),
        pytest.param([*movies(("en", 19_900))], id="as many as both ends show"),
        pytest.param([*movies(("en", 15_000), ("fr", 9_000), ("xx", 11_000))], id="three languages"),
    ],
)
def test_every_movie_of_a_day_is_reached(found: list[Movie]) -> None:
    tmdb = Tmdb(iter(found))
    assert tmdb.haul(DAY) == tmdb.all()


def test_every_movie_of_a_large_cell_is_reached_at_few_requests() -> None:
    """30,000 movies in a year, 11,000 of them on 1 January."""
    tmdb = Tmdb(iter([*movies(("en", 19_000), day=None), *movies(("ja", 11_000))]))
    assert tmdb.haul(YEAR) == tmdb.all()
    assert tmdb.requests < 30_000 / PAGE_SIZE * 1.1


def test_what_is_out_of_reach_is_on_no_page_that_tmdb_shows() -> None:
    tmdb = Tmdb(movies(("en", 26_000), ("fr", 3_000)))
    found = tmdb.haul(DAY)
    shown = set[int]()
    for order in ("", ",desc", ",en", ",en,desc", ",fr", ",fr,desc"):
        for number in range(1, MAX_PAGE + 1):
            shown |= tmdb.page(Cell(18, f"{DAY.window}{order}"), number)[0]
    assert found == shown
    assert 20_000 < len(found) < 29_000
