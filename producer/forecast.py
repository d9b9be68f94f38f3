"""What a backfill takes, before it runs: requests, time, memory; and what is cheaper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import SystemRandom

from producer.coverage import Coverage, CoverageIndex
from producer.estimate import ENOUGH, Count, Estimate, from_probe, from_table
from producer.requests.backfills import Backfill
from worker.keys import ANY_GENRE, MAX_PAGE, PAGE_SIZE, Cell
from worker.storage.database import Storage

#: Bytes of a message in Redis: 1,065 (docs/growth.md) and the request's id. Of a list item and of a page
#: record in MongoDB, uncompressed, without indexes: the mean of 189 recorded items, and a page of 20 movies.
MESSAGE_BYTES, MOVIE_BYTES, PAGE_BYTES = 1_100, 793, 364
#: A plan by date is named when it takes less than this share of the requests.
CHEAPER = 0.9


@dataclass(frozen=True)
class Forecast:
    """What a backfill takes."""

    cells: int
    #: Cells of which no page 1 was ever stored.
    unknown: int
    #: Of the other cells, by what their page 1 said.
    pages_stored: int
    pages_missing: int
    requests: int
    #: The interval that the requests lie in.
    low: int
    high: int
    #: At the limit.
    seconds: float
    #: Movies on the pages to fetch, each as often as it comes; and different ones.
    list_items: int
    movies: int
    #: In Redis, at most.
    broker_bytes: int
    mongodb_bytes: int
    #: For the same years by date, where that is cheaper; None where it is not, or not known.
    by_date_requests: int | None
    #: Requests that the forecast took.
    probe_requests: int
    #: Where the lengths of the unknown cells come from: `known` (there are none), `probe`, `stored`, `table`.
    basis: str


def forecast(
    storage: Storage, wanted: Backfill, per_s: float, concurrency: int, count: Count | None = None
) -> Forecast:
    """The forecast, by `count` (which asks TMDB) or else by what is stored. Raises MongoUnavailable."""
    moments: set[datetime | None] = {wanted.fresh_after, None}
    indexes, cells = CoverageIndex.read(storage, moments), wanted.cells()
    known, queued = Coverage(), 0
    unknown = list[Cell]()
    for cell in cells:
        now, ever = (indexes[moment].coverage(cell) for moment in (wanted.fresh_after, None))
        queued += now.missing
        if not ever.opened:
            if now.missing:  # its page 1 is not in quarantine
                unknown.append(cell)
        elif now.opened:
            known.add(now)
        else:  # too old: all its pages are fetched again
            known.add(Coverage(planned=ever.planned))
    lengths = _lengths(storage) if count is None else {}
    estimate = from_table(unknown, lengths) if count is None else from_probe(unknown, count, SystemRandom())
    requests = known.missing + estimate.requests
    items = known.missing * PAGE_SIZE + estimate.items
    movies = items * _share_of_different(cells, estimate)
    basis = "probe" if count else "stored" if len(lengths) >= ENOUGH else "table"
    is_comparable = len(unknown) == len(cells) and ANY_GENRE not in wanted.genres
    return Forecast(
        cells=len(cells),
        unknown=len(unknown),
        pages_stored=known.stored,
        pages_missing=known.missing,
        requests=round(requests),
        low=round(known.missing + estimate.low),
        high=round(known.missing + estimate.high),
        seconds=round(requests / per_s, 1),
        list_items=round(items),
        movies=round(movies),
        broker_bytes=round(min(requests, queued + concurrency * MAX_PAGE)) * MESSAGE_BYTES,
        mongodb_bytes=round(movies * MOVIE_BYTES + requests * PAGE_BYTES),
        by_date_requests=round(estimate.by_date)
        if is_comparable and estimate.by_date < CHEAPER * requests
        else None,
        probe_requests=estimate.asked,
        basis=basis if unknown else "known",
    )


def _lengths(storage: Storage) -> Mapping[Cell, int]:
    """The movies of every stored cell that is a whole year."""
    first_pages = storage.pages.first_pages()
    return {cell: totals.results for cell, totals in first_pages.items() if cell.window.isdecimal()}


def _share_of_different(cells: Sequence[Cell], estimate: Estimate) -> float:
    """How many different movies there are for each list item."""
    known = estimate if estimate.items else from_table(cells, {})
    return min(1.0, known.movies / known.items) if known.items else 1.0
