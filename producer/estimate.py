"""How many requests cells of unknown length take, estimated before they are fetched. Pure: no I/O of its own.

From a table, or from first pages of a sample of the cells, which the caller requests.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from worker.keys import ANY_GENRE, MAX_PAGE, PAGE_SIZE, Cell
from worker.windows import Window

#: Movies in TMDB, and those first released in 2017 or later: `total_results` of /discover/movie without
#: a filter and from 2017-01-01 on, as recorded on 2026-05-24 by the tests of jellyfin/TMDbLib (MIT licence).
#: The second may be too small, for that query named a region too. The years are a curve through both.
MOVIES, SINCE, MOVIES_SINCE, UNTIL = 1_140_000, 2017, 396_000, 2026.4
#: Share of the movies that have the genre: of the 4,803 in TMDB 5000 (Kaggle, 2017). These are well known and
#: mostly American; of all of TMDB more are documentaries, and fewer are in several genres.
GENRE_SHARES = {
    18: 0.478, 35: 0.359, 53: 0.265, 28: 0.240, 10749: 0.186, 12: 0.164, 80: 0.145, 878: 0.111, 27: 0.108,
    10751: 0.107, 14: 0.088, 9648: 0.072, 16: 0.049, 36: 0.041, 10402: 0.039, 10752: 0.030, 99: 0.023,
    37: 0.017, 10770: 0.002,
}  # fmt: skip
#: Of a genre that the table lacks.
OTHER_SHARE = 0.05
#: The table may be wrong by this factor, either way. A judgement, not a measurement.
TABLE_FACTOR = 2.0
#: Cells of which the first page is requested: those that should be the longest, and others at random. With 50
#: of these the estimate was off by up to 7 % in 600 trials, with 100 by 4 %.
LONGEST, RANDOM = 25, 125
#: Known cells that are enough to correct the table by.
ENOUGH = 20
#: For an interval that 95 % of the estimates hold.
_Z = 1.96

#: The movies of each of the cells, as page 1 states them.
Count = Callable[[Sequence[Cell]], Sequence[int]]


@dataclass(frozen=True)
class Estimate:
    """What cells of unknown length take."""

    requests: float = 0.0
    #: The interval in which the requests lie, in 95 of 100 cases; by a table, a judgement.
    low: float = 0.0
    high: float = 0.0
    #: Movies on all their pages, each as often as it comes.
    items: float = 0.0
    #: Different movies among them.
    movies: float = 0.0
    #: Requests for the same years by date, where each movie comes once.
    by_date: float = 0.0
    #: Requests that the estimate itself took.
    asked: int = 0


def requests_for(movies: float) -> int:
    """Requests for a cell of so many movies: its pages; above MAX_PAGE page 1, and two equal halves."""
    pages = _pages(movies)
    return pages if pages <= MAX_PAGE else 1 + 2 * requests_for(movies / 2)


def expected_requests(mean: float) -> float:
    """Requests on average for a cell whose number of movies is Poisson distributed."""
    if mean > PAGE_SIZE * MAX_PAGE:
        return requests_for(mean)
    deviation = math.sqrt(2 * max(mean, 1e-9))
    last = math.ceil((mean + 4 * deviation) / PAGE_SIZE) + 1
    return 1 + sum(
        math.erfc((PAGE_SIZE * full + 0.5 - mean) / deviation) / 2 for full in range(1, last)
    )  # of a normal distribution, which is near enough


def movies_of_year(year: int) -> float:
    """Movies that TMDB has of a year: each year has as many more than the one before as fits both figures."""
    growth = -math.log(1 - MOVIES_SINCE / MOVIES) / (UNTIL - SINCE)
    passed = min(year + 1, UNTIL) - year
    if passed <= 0:
        return 0.0
    return MOVIES * math.exp(-growth * (UNTIL - year)) * (math.exp(growth * passed) - 1)


def from_table(cells: Sequence[Cell], known: Mapping[Cell, int]) -> Estimate:
    """An estimate without a request; `known`: the movies of other cells, to correct the table by.

    All cells are whole years.
    """
    by_year = {cell.window: movies_of_year(int(cell.window)) for cell in [*cells, *known]}
    means = {
        cell: by_year[cell.window] * (1 if cell.genre_id == ANY_GENRE else _table_share(cell.genre_id))
        for cell in [*cells, *known]
    }
    scale, factor = 1.0, TABLE_FACTOR
    if len(known) >= ENOUGH:
        scale = sum(known.values()) / max(1.0, sum(means[cell] for cell in known))
        factor = 1 + (TABLE_FACTOR - 1) / 2
    wanted = {cell.window for cell in cells}
    numbers = {window: scale * number for window, number in by_year.items() if window in wanted}
    requests = sum(expected_requests(scale * means[cell]) for cell in cells)
    shares = {cell.genre_id: _table_share(cell.genre_id) for cell in cells}
    return Estimate(
        requests,
        max(len(cells), requests / factor),
        requests * factor,
        scale * sum(means[cell] for cell in cells),
        _different(sum(numbers.values()), shares),
        sum(map(expected_requests, numbers.values())),
    )


def from_probe(cells: Sequence[Cell], count: Count, random: Random) -> Estimate:
    """An estimate from first pages: of each year and each genre as a whole, then of a sample of the cells.

    The movies of a cell are about those of its year times the share of its genre; what a sample of the cells
    has in fact corrects that, and says how far the whole may be off. Few cells are all asked for.
    """
    if not cells:
        return Estimate()
    years = list(dict.fromkeys(cell.window for cell in cells))
    in_year = dict(zip(years, count([Cell(ANY_GENRE, year) for year in years]), strict=True))
    by_date = float(sum(map(requests_for, in_year.values())))
    of_genres = [cell for cell in cells if cell.genre_id != ANY_GENRE]
    found = {cell: in_year[cell.window] for cell in cells if cell.genre_id == ANY_GENRE}
    genres = list(dict.fromkeys(cell.genre_id for cell in of_genres))
    all_movies = sum(in_year.values())
    if len(of_genres) <= 1 + len(genres) + LONGEST + RANDOM:
        found |= dict(zip(of_genres, count(of_genres), strict=True))
        requests, items = float(sum(map(requests_for, found.values()))), float(sum(found.values()))
        # Each half may have to be halved once more, for days are not alike.
        halved = 2.0 * sum(requests_for(movies) - _pages(movies) for movies in found.values())
        shares = {
            id_: sum(movies for cell, movies in found.items() if cell.genre_id == id_) / max(1, all_movies)
            for id_ in {cell.genre_id for cell in cells}
        }
        asked = len(years) + len(of_genres)
        movies = _different(all_movies, shares)
        return Estimate(requests, requests, requests + halved, items, movies, by_date, asked)
    span = _span(years)
    whole, *counts = count([Cell(ANY_GENRE, span), *(Cell(id_, span) for id_ in genres)])
    shares = {id_: number / max(1, whole) for id_, number in zip(genres, counts, strict=True)}
    model = {cell: expected_requests(in_year[cell.window] * shares[cell.genre_id]) for cell in of_genres}
    ordered = sorted(of_genres, key=lambda cell: -model[cell])
    sample = random.sample(ordered[LONGEST:], RANDOM)
    rest = [cell for cell in ordered[LONGEST:] if cell not in set(sample)]
    counted = dict(zip(ordered[:LONGEST] + sample, count(ordered[:LONGEST] + sample), strict=True))
    found |= counted
    actual = {cell: requests_for(movies) for cell, movies in found.items()}
    ratio = sum(actual[cell] for cell in sample) / sum(model[cell] for cell in sample)
    requests = sum(actual.values()) + ratio * sum(model[cell] for cell in rest)
    half = _half_width([actual[cell] - ratio * model[cell] for cell in sample], len(rest))
    items = sum(in_year[cell.window] * shares[cell.genre_id] for cell in of_genres)
    return Estimate(
        requests,
        max(len(cells), requests - half),
        requests + half,
        items + sum(movies for cell, movies in found.items() if cell.genre_id == ANY_GENRE),
        _different(all_movies, shares | ({ANY_GENRE: 1.0} if len(of_genres) < len(cells) else {})),
        by_date,
        len(years) + 1 + len(genres) + len(counted),
    )


def _pages(movies: float) -> int:
    return max(1, math.ceil(movies / PAGE_SIZE))


def _half_width(residuals: Sequence[float], rest: int) -> float:
    """Half of the 95 % interval of the sum over `rest` cells, by what was left over in a sample of others.

    As if one cell of the sample were off by a page at least: a sample without a surprise proves little.
    """
    number, mean = len(residuals), fmean(residuals)
    variance = max(sum((one - mean) ** 2 for one in residuals) / (number - 1), 1 / number)
    return _Z * math.sqrt(rest * (rest + number) * variance / number)


def _different(movies: float, shares: Mapping[int, float]) -> float:
    """How many of the movies have at least one of the genres, as if genres were independent of each other."""
    return movies * (1 - math.prod(1 - min(1.0, share) for share in shares.values()))


def _table_share(genre_id: int) -> float:
    return 1.0 if genre_id == ANY_GENRE else GENRE_SHARES.get(genre_id, OTHER_SHARE)


def _span(windows: Iterable[str]) -> str:
    """The window from the first day to the last of all windows."""
    parsed = [Window.parse(window) for window in windows]
    return str(Window(min(one.first for one in parsed), max(one.last for one in parsed)))
