"""What commands print: tables, progress bars, the live view of a backfill."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from producer.coverage import Coverage, in_quarantine
from producer.requests.backfills import Backfill
from producer.requests.request import Progress
from worker.durations import format_seconds
from worker.limiter.state import LimiterState

#: Seconds over which the current request rate is averaged.
RATE_WINDOW_S = 5
#: Columns of what is no terminal: a line is as long as it is, and no table is cut.
UNWRAPPED = 10_000


def console(*, quiet: bool = False) -> Console:
    """Standard output; rich honours NO_COLOR and detects pipes."""
    out = Console(quiet=quiet, highlight=False)
    if not out.is_terminal:
        out.width = UNWRAPPED
    return out


def print_json(value: object) -> None:
    """The value on one line."""
    typer.echo(json.dumps(value))


def plain_table(*columns: str, right: Iterable[int] = ()) -> Table:
    """An empty table without borders; `right`: which columns hold numbers."""
    table = Table(*columns, box=None, pad_edge=False)
    for number in right:
        table.columns[number].justify = "right"
    return table


def counted(number: int, noun: str) -> str:
    """`1 page`, `2,000 pages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def at_intervals(seconds: float) -> Iterator[None]:
    """Yield at most once in `seconds`, and sleep three times as long as the caller's work took."""
    while True:
        begun = time.monotonic()
        yield
        time.sleep(max(seconds, 3 * (time.monotonic() - begun)))


@contextmanager
def progress_bar(
    description: str, total: int | None, *, quiet: bool = False, in_bytes: bool = False
) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal while the block runs; yields a function that advances it by 1 or its argument.

    `total` is None when unknown.
    """
    out = console(quiet=quiet)
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(40), amount, TimeRemainingColumn())
    with Bars(*columns, console=out, transient=True, disable=quiet or not out.is_terminal) as bars:
        bar = bars.add_task(description, total=total)

        def advance(by: int = 1) -> None:
            bars.advance(bar, by)

        yield advance


def limiter_status(state: LimiterState) -> str:
    """`open`, or `closed: paused for 4m 10s`."""
    if not state.closed_reason:
        return "open"
    wait = f" for {format_seconds(state.closed_s)}" if state.closed_s else ""
    return f"closed: {state.closed_reason}{wait}"


def limiter_line(state: LimiterState) -> str:
    """How much of the limit is used, and why the limiter is closed if it is."""
    line = (
        f"{state.granted_per_s(RATE_WINDOW_S):.1f} of {state.current_per_s:.4g} requests/s, "
        f"{state.refused:,} refused"
    )
    return f"{line}; limiter {limiter_status(state)}" if state.closed_reason else line


def expected_rate(state: LimiterState) -> float:
    """Expected requests per second, for the time left: the current rate, or the limit while nothing runs."""
    return min(state.current_per_s, state.granted_per_s(RATE_WINDOW_S) or state.current_per_s)


def live_view(progress: Progress, state: LimiterState) -> RenderableType:
    """A running request: a bar, counts, the limiter, the time left."""
    pages, movies, left_s = progress.pages, progress.movies, progress.left_s(expected_rate(state))
    facts = Table.grid(padding=(0, 2))
    if pages.cells > 1:
        facts.add_row("open", f"{pages.opened:,} of {pages.cells:,} {_lists(progress)}")
    if pages.cells:
        of = f"{pages.planned:,}" if pages.opened == pages.cells else f"about {pages.expected:,}"
        facts.add_row("pages", f"{pages.stored:,} of {of} stored{in_quarantine(pages.quarantined)}")
    if movies.planned:
        of = f"{movies.planned:,} fetched{in_quarantine(movies.quarantined)}"
        facts.add_row("movies", f"{movies.stored:,} of {of}")
    facts.add_row("limit", Text(limiter_line(state), style="bold yellow" if state.closed_reason else ""))
    facts.add_row("left", format_seconds(left_s) if left_s else "nothing")
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, progress.expected), completed=progress.done, width=60))
    return Group(Text(progress.request.title, style="bold"), bar, facts)


def summary(progress: Progress, movies: int) -> str:
    """A request's result in one line; `movies`: how many are stored in all."""
    return f"{progress.request.title}: {_counts(progress)}; {counted(movies, 'movie')} stored in all"


def status_tables(progress: Progress, state: LimiterState | None) -> Iterable[RenderableType]:
    """A request's line; of a backfill that a person asked for also its tables by genre and by year."""
    missing, left = f"{progress.missing:,} missing" if progress.missing else "complete", ""
    if progress.cancelled:
        missing = f"cancelled, {missing}"
    elif state and progress.missing:
        left = f", {format_seconds(progress.left_s(expected_rate(state)))} left"
    opened = ""
    if progress.pages.cells > 1:
        opened = f"{progress.pages.opened:,}/{progress.pages.cells:,} {_lists(progress)} open, "
    text = f"{progress.request.title}: {opened}{_counts(progress)}, {missing}{left}"
    yield Text(text, style="bold")
    if progress.request.schedule_entry or not isinstance(progress.request, Backfill):
        return
    yield _coverage_table("genre", progress.by_genre.items())
    yield _coverage_table("year", progress.by_year.items())


def _counts(progress: Progress) -> str:
    """`80 of 80 pages stored, 1 in quarantine, 120 of 155 movies fetched`."""
    pages, movies = progress.pages, progress.movies
    parts = []
    if pages.cells:
        text = f"{pages.stored:,} of {counted(pages.planned, 'page')} stored"
        parts.append(text + in_quarantine(pages.quarantined))
    if pages.short:
        parts.append(f"{counted(pages.short, 'movie')} short though asked for again (`reelhaul verify`)")
    if progress.unreachable:
        parts.append(f"{counted(progress.unreachable, 'movie')} out of reach: on no page that TMDB shows")
    if movies.planned or not parts:
        text = f"{movies.stored:,} of {counted(movies.planned, 'movie')} fetched"
        parts.append(text + in_quarantine(movies.quarantined))
    return ", ".join(parts)


def _lists(progress: Progress) -> str:
    """What has pages: `cells`, or the days of a reading of changes."""
    return "cells" if isinstance(progress.request, Backfill) else "days"


def _coverage_table(heading: str, parts: Iterable[tuple[str, Coverage]]) -> Table:
    rows = plain_table(heading, "cells open", "pages stored", "missing", "quarantined", "", right=range(1, 5))
    for name, part in parts:
        rows.add_row(
            name,
            f"{part.opened:,}/{part.cells:,}",
            f"{part.stored:,}/{part.planned:,}",
            f"{part.missing:,}",
            f"{part.quarantined:,}",
            ProgressBar(total=max(1, part.planned), completed=part.stored + part.quarantined, width=20),
        )
    return rows
