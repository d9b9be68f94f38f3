"""`reelhaul status`: how far everything that was asked for is, and what holds it back; also as a chart."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from producer.bottleneck import bottleneck
from producer.charts.coverage_html import coverage_html, write
from producer.charts.grid import coverage_grid
from producer.cli.options import AsJson, png_extra
from producer.cli.render import (
    at_intervals,
    console,
    counted,
    expected_rate,
    limiter_line,
    print_json,
    status_tables,
)
from producer.progress import measure_all
from producer.queues import lengths
from producer.requests.request import Progress
from worker.clients import limiter, redis_client, storage
from worker.durations import format_duration
from worker.errors import RedisUnavailable
from worker.limiter.state import LimiterState
from worker.monitoring.stats import fleet_stats
from worker.settings import settings

WATCH_S = 1.0
#: Pages that pass the retention within this time are about to expire.
SOON = timedelta(days=14)


@dataclass(frozen=True)
class Report:
    """Everything that `status` shows."""

    requests: list[Progress]
    #: Movies that are stored.
    movies: int
    #: None when Redis does not answer.
    limiter: LimiterState | None
    bottleneck: str
    #: Pages that expire within SOON unless they are fetched again.
    expiring: int

    def as_list(self) -> list[dict[str, object]]:
        """For JSON: the requests, latest first, each with the fleet's figures."""
        state = self.limiter
        figures = {
            "requests_per_s": round(state.granted_per_s(10), 2) if state else None,
            "limit_per_s": round(state.current_per_s, 4) if state else None,
            "bottleneck": self.bottleneck if state else None,
            "pages_expiring": self.expiring,
            "movies": self.movies,
        }
        per_s = expected_rate(state) if state else None
        return [progress.as_dict(per_s) | figures for progress in self.requests]


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Update every second, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the coverage by genre and year as HTML.", metavar="FILE")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="The same as PNG.", metavar="FILE")] = None,
) -> None:
    """Show how far everything that was asked for is, and what holds it back."""
    if html or png:
        _draw(html, png)
    elif as_json:
        print_json(report().as_list())
    elif watch:
        _watch()
    else:
        console().print(_shown(report()))


def _draw(html: Path | None, png: Path | None) -> None:
    grid = coverage_grid(measure_all(storage()))
    if html:
        write(html, coverage_html(grid).encode())
    if png:
        with png_extra():
            from producer.charts.png import coverage_png  # noqa: PLC0415 -- of an extra, and slow
        write(png, coverage_png(grid))


def report() -> Report:
    """The report as of now: reads MongoDB once, Redis four times."""
    requests, movies = measure_all(storage()), storage().movies.count()
    retention = settings().reelhaul_retention
    expiring = storage().pages.count_fetched_before(storage().mongo.now() - retention + SOON)
    with suppress(RedisUnavailable):
        state = limiter().state()
        slowed_by = bottleneck(state, fleet_stats(redis_client()), lengths())
        return Report(requests, movies, state, slowed_by, expiring)
    return Report(requests, movies, None, "Redis does not answer", expiring)


def _watch() -> None:
    out = console()
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        for _ in at_intervals(WATCH_S):
            if out.is_terminal:
                live.update(_shown(report()), refresh=True)
            else:
                out.print(_shown(report()))


def _shown(now: Report) -> Group:
    if not now.requests:
        return Group("nothing was requested yet: `reelhaul backfill --help`")
    lines = [f"{counted(now.movies, 'movie')} stored"]
    if now.limiter:
        lines.append(limiter_line(now.limiter))
    if not now.limiter or any(one.missing and not one.cancelled for one in now.requests):
        lines.append(f"bottleneck: {now.bottleneck}")
    if now.expiring:
        lines.append(_expiring(now.expiring))
    tables = [part for progress in now.requests for part in status_tables(progress, now.limiter)]
    return Group(*lines, *tables)


def _expiring(pages: int) -> str:
    retention = settings().reelhaul_retention
    max_age = format_duration(max(retention - SOON, timedelta(0)))
    return (
        f"{counted(pages, 'page')} will pass REELHAUL_RETENTION ({format_duration(retention)}) within "
        f"{format_duration(SOON)}: `reelhaul refresh --max-age {max_age} --years ...`"
    )
