"""Shows what a backfill takes: for `reelhaul plan` and `reelhaul backfill --dry-run`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from producer.cli.render import console, counted, print_json, progress_bar
from producer.cli.tmdb import checked_tmdb
from producer.estimate import TABLE_FACTOR
from producer.forecast import Forecast, forecast
from producer.requests.backfills import Backfill
from worker.clients import storage
from worker.durations import format_seconds
from worker.keys import Cell
from worker.retry import ask
from worker.settings import settings
from worker.tmdb import endpoints
from worker.tmdb.client import TmdbClient

#: Requests of a probe at a time; the limiter decides how many a second.
THREADS = 8
_BASES = {
    "probe": "by first pages of {asked} queries, which were asked for now and not stored",
    "stored": "by the cells that are stored, and a table of movies a year: rough; --probe asks TMDB",
    "table": f"by a table of movies a year, easily wrong by a factor of {TABLE_FACTOR:g}; "
    "`reelhaul plan --probe` asks TMDB",
}


def show_plan(wanted: Backfill, *, probe: bool = False, as_json: bool = False) -> None:
    """Print what the backfill takes; `probe`: ask TMDB for first pages."""
    rate, concurrency = settings().reelhaul_rate.per_s, settings().reelhaul_concurrency
    if probe:
        with checked_tmdb() as client, progress_bar("queries", None, quiet=as_json) as advance:
            found = forecast(storage(), wanted, rate, concurrency, _counter(client, advance))
    else:
        found = forecast(storage(), wanted, rate, concurrency)
    if as_json:
        print_json(asdict(found))
        return
    for line in _lines(wanted, found, rate):
        console().print(line, soft_wrap=True)


def _counter(client: TmdbClient, advance: Callable[[], None]) -> Callable[[Sequence[Cell]], list[int]]:
    """Counts movies by first pages."""

    def count(cell: Cell) -> int:
        key = cell.page(1)
        found = ask(lambda deadline: client.get(key, endpoints.discover, deadline))
        advance()
        return found.total_results

    def count_all(cells: Sequence[Cell]) -> list[int]:
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(count, cells))

    return count_all


def _lines(wanted: Backfill, found: Forecast, rate: float) -> Iterator[str]:
    genres, years = len(wanted.genres), len(wanted.years)
    unknown = f"; {found.unknown:,} of unknown length" if found.unknown else ""
    yield f"{counted(found.cells, 'cell')}: {counted(genres, 'genre')} x {counted(years, 'year')}{unknown}"
    if found.unknown < found.cells:
        yield f"{counted(found.pages_stored, 'known page')} stored, {found.pages_missing:,} to fetch"
    is_exact = found.low == found.high
    digits = 2 if found.basis in {"table", "stored"} else 3
    low, high = (_rounded(edge, digits) for edge in (found.low, found.high))
    percent = "95 %: " if found.basis == "probe" else ""
    requests = found.requests if is_exact else _rounded(found.requests, digits)
    yield (
        f"{'' if is_exact else 'about '}{counted(requests, 'request')}"
        f"{'' if is_exact else f' ({percent}{low:,} to {high:,})'}: "
        f"{format_seconds(found.seconds)} at {rate:g}/s"
    )
    if found.requests:
        repeats = found.list_items - found.movies
        yield (
            f"about {_rounded(found.movies, digits):,} movies; {_rounded(repeats, digits):,} come again "
            f"in another genre (each {found.list_items / max(1, found.movies):.1f} times on average)"
        )
        yield (
            f"Redis: up to {_size(found.broker_bytes)} of messages; MongoDB: about "
            f"{_size(found.mongodb_bytes)} before compression and indexes"
        )
    if found.basis in _BASES:
        yield f"lengths {_BASES[found.basis].format(asked=f'{found.probe_requests:,}')}"
    if found.by_date_requests is not None:
        yield (
            f"cheaper: about {_rounded(found.by_date_requests, digits):,} requests with "
            "`reelhaul backfill --by date`, each movie once, those without a genre too"
        )


def _rounded(number: float, digits: int) -> int:
    """The number to so many digits: the others would only look exact."""
    return int(float(f"{number:.{digits}g}"))


def _size(size: float) -> str:
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:,.3g} {unit}"
    return f"{size / 1000:,.1f} GB"
