"""What a person sees: tables for `status`, a live view of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Steps
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from producer.coverage import Coverage
from producer.progress import Progress
from worker.keys import ANY_GENRE
from worker.limiter.state import LimiterState

#: Seconds that "requests a second" looks back.
LATELY_S = 5
_SHUT_STYLE = "bold yellow"


def console(*, quiet: bool = False) -> Console:
    """Standard output; rich honours NO_COLOR and pipes by itself."""
    return Console(quiet=quiet, highlight=False)


@contextmanager
def advancing(words: str, total: int, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A bar while the block runs; what it is given adds a step, or as many as it is told. Else silent."""
    out = console(quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeRemainingColumn())
    with Steps(*columns, console=out, transient=True, disable=quiet or not out.is_terminal) as steps:
        task = steps.add_task(words, total=total)

        def advance(number: int = 1) -> None:
            steps.advance(task, number)

        yield advance


@contextmanager
def advancing_bytes(words: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """As `advancing`, in bytes; None where nobody knows how many will come."""
    out = console(quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(40), DownloadColumn(), TimeRemainingColumn())
    with Steps(*columns, console=out, transient=True, disable=quiet or not out.is_terminal) as steps:
        task = steps.add_task(words, total=total)
        yield lambda count: steps.advance(task, count)


def span(seconds: float) -> str:
    """A length of time in its two largest units: `2h 05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest_s = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest_s:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24:02d}h"


def live_view(progress: Progress, gate: LimiterState) -> RenderableType:
    """A run at this moment."""
    total = progress.total
    left_s = progress.left_s(pace(gate))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("cells", f"{total.opened:,} of {total.cells:,} open")
    facts.add_row("pages", f"{total.stored:,} of {_about(total)} stored" + _given_up(total))
    facts.add_row("movies", f"{progress.movies:,}")
    facts.add_row(
        "requests",
        f"{gate.granted_per_s(LATELY_S):.1f}/s of {gate.current_per_s:.1f}/s allowed, "
        f"{gate.refused:,} refused",
        Text(shut_line(gate), style=_SHUT_STYLE),
    )
    facts.add_row("left", span(left_s) if left_s else "nothing")
    bar = Table.grid()
    bar.add_row(
        ProgressBar(total=max(1, total.expected), completed=total.stored + total.quarantined, width=60)
    )
    return Group(Text(title(progress), style="bold"), bar, facts)


def title(progress: Progress) -> str:
    backfill = progress.backfill
    years = f"{min(backfill.years)}..{max(backfill.years)}" if len(backfill.years) > 1 else backfill.years[0]
    name = (
        f"{backfill.schedule_entry} ({backfill.id})" if backfill.schedule_entry else f"backfill {backfill.id}"
    )
    number = len(backfill.genres)
    genres = "any genre" if ANY_GENRE in backfill.genres and number == 1 else f"{number} genres"
    return f"{name}: {genres}, {years}"


def gate_line(gate: LimiterState) -> str:
    """How much of the limit is used, in one line."""
    lately, allowed = gate.granted_per_s(LATELY_S), gate.current_per_s
    shut = f"; {shut_line(gate)}" if gate.closed_reason else ""
    return f"{lately:.1f} of {allowed:.4g} requests/s, {gate.refused:,} refused{shut}"


def pace(gate: LimiterState) -> float:
    """Requests a second that the next while will see: as lately, or as allowed while nothing runs."""
    return min(gate.current_per_s, gate.granted_per_s(LATELY_S) or gate.current_per_s)


def status_tables(progress: Progress, gate: LimiterState | None) -> Iterable[RenderableType]:
    """A backfill in two lines, then by genre and by year; a duty of the schedule in two lines alone."""
    total = progress.total
    state = f"{total.missing:,} missing" if total.missing else "complete"
    left = f", {span(progress.left_s(pace(gate)))} left" if gate and total.missing else ""
    yield Text(
        f"{title(progress)}: {total.opened:,}/{total.cells:,} cells open, "
        f"{total.stored:,}/{total.planned:,} pages, {state}{_given_up(total)}{left}, "
        f"{progress.movies:,} movies",
        style="bold",
    )
    if progress.backfill.schedule_entry:
        return
    names = progress.backfill.genres
    yield _table("genre", ((names[genre_id], part) for genre_id, part in progress.by_genre.items()))
    yield _table("year", progress.by_year.items())


def _table(heading: str, parts: Iterable[tuple[str, Coverage]]) -> Table:
    table = Table(
        heading, "cells open", "pages stored", "missing", "quarantined", "", box=None, pad_edge=False
    )
    for column in table.columns[1:5]:
        column.justify = "right"
    for name, part in parts:
        done = part.stored + part.quarantined
        table.add_row(
            name,
            f"{part.opened:,}/{part.cells:,}",
            f"{part.stored:,}/{part.planned:,}",
            f"{part.missing:,}",
            f"{part.quarantined:,}",
            ProgressBar(total=max(1, part.planned), completed=done, width=20),
        )
    return table


def _about(total: Coverage) -> str:
    return f"{total.planned:,}" if total.opened == total.cells else f"about {total.expected:,}"


def _given_up(total: Coverage) -> str:
    return f", {total.quarantined:,} in quarantine" if total.quarantined else ""


def shut_line(gate: LimiterState) -> str:
    """Why nothing goes through, and for how long; "" when the gate is open."""
    wait = f" for {span(gate.closed_s)}" if gate.closed_s else ""
    return f"shut{wait}: {gate.closed_reason}" if gate.closed_reason else ""
