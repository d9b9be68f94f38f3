"""Compares what is stored with the catalogue that the emulator serves."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from sandbox.servers import EmulatorProcess
from worker.keys import ANY_GENRE, PAGE_SIZE, Cell, PageKey, parse_key
from worker.windows import Window

Document = dict[str, Any]


@dataclass
class Comparison:
    """Ids of what differs between store and catalogue; `quarantined` pages are also `missing`."""

    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


def catalogue(server: EmulatorProcess) -> dict[int, Document]:
    """The list items that the emulator serves now, by id."""
    return server.movies()


def expected_cell(movies: Mapping[int, Document], genre_id: int, year: int) -> set[int]:
    """Ids of the movies in a cell."""
    return expected_cells(movies, [genre_id], [year])[Cell(genre_id, str(year))]


def expected_cells(
    movies: Mapping[int, Document], genre_ids: Iterable[int], years: Iterable[int]
) -> dict[Cell, set[int]]:
    """Ids of the movies in each cell of the genres and years."""
    cells = {Cell(genre_id, str(year)): set[int]() for year in years for genre_id in genre_ids}
    for movie_id, movie in movies.items():
        for genre_id in movie["genre_ids"]:
            cells.get(Cell(genre_id, movie["release_date"][:4]), set()).add(movie_id)
    return cells


def expected_pages(cells: Mapping[Cell, set[int]]) -> set[str]:
    """Ids of the pages that the cells fill; an empty cell has one."""
    return {
        cell.page(number).id
        for cell, movie_ids in cells.items()
        for number in range(1, max(1, math.ceil(len(movie_ids) / PAGE_SIZE)) + 1)
    }


def compare(
    database: Database[Document], movies: Mapping[int, Document], cells: Mapping[Cell, set[int]]
) -> Comparison:
    """Compare the cells page by page and movie by movie, every field in its order."""
    found = Comparison()
    pages = {page["_id"]: page for page in database["pages"].find()}
    found.missing = sorted(expected_pages(cells) - pages.keys())
    found.wrong += [f"page {id_}" for id_ in pages.keys() - expected_pages(cells)]
    found.quarantined = [failure["_id"] for failure in database["failures"].find()]
    incomplete = {page_key(id_).cell for id_ in found.quarantined}
    stored = defaultdict[Cell, list[int]](list)
    for id_, page in pages.items():
        key = PageKey(page["genre_id"], page["window"], page["page"])
        if key.id != id_:
            found.wrong.append(f"page {id_}")
        stored[key.cell] += page["movie_ids"]
    for cell, expected in cells.items():
        times = Counter(stored[cell])
        found.doubled += [f"{cell.id} {movie_id}" for movie_id, number in times.items() if number > 1]
        if not (times.keys() < expected if cell in incomplete else times.keys() == expected):
            found.wrong.append(f"cell {cell.id}")
    _compare_movies(database, movies, set[int]().union(*cells.values()), found)
    return found


def _compare_movies(
    database: Database[Document], movies: Mapping[int, Document], expected: set[int], found: Comparison
) -> None:
    stored = set[int]()
    for document in database["movies"].find():
        movie_id = document.pop("_id")
        del document["_meta"]
        if json.dumps(document) != json.dumps(movies.get(movie_id)):
            found.wrong.append(f"movie {movie_id}")
        if document["id"] in stored:
            found.doubled.append(f"movie {document['id']}")
        stored.add(document["id"])
    if not found.quarantined and stored != expected:
        found.wrong.append(f"{len(stored ^ expected)} movies too many or too few")


def page_requests(server: EmulatorProcess) -> Counter[str]:
    """How often each page of discover was requested, by the page's id."""
    return Counter(page_id(row[4]) for row in server.log() if row[3] == "discover")


def page_key(id_: str) -> PageKey:
    """The key of a cell's page with that id."""
    key = parse_key(id_)
    assert isinstance(key, PageKey)
    return key


def page_id(logged: str) -> str:
    """The id of a page that the emulator's log names by its days."""
    genre_id, window, number = logged.split(":")
    return f"{genre_id or ANY_GENRE}:{Window.parse(window)}:{number}"
