"""`reelhaul refresh`: fetch again what is old, or what changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from producer.cli.backfill import new_backfill
from producer.cli.follow import run_backfill, run_movie_requests
from producer.cli.options import Detach, Genres, Quiet, parse_max_age
from producer.cli.render import console, progress_bar
from producer.plan import parse_years
from producer.schedule.change_tasks import ask_changes
from producer.schedule.changes import LONGEST_GAP, Reading, days_to_read, end_reading, read_day
from producer.schedule.tasks import changes_since, full_sweep
from worker.clients import close_api_client, fleet_now, storage, tmdb_client
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.keys import MovieKey
from worker.movie_tasks import enqueue_movies
from worker.retry import ask
from worker.settings import settings


def refresh(  # noqa: PLR0913, PLR0917 -- a command's options
    max_age: Annotated[str, typer.Option(help="Fetch again what is older.", metavar="LENGTH")] = "1d",
    genres: Genres = "all",
    years: Annotated[
        str | None,
        typer.Option(help="Years of first release.", metavar="FIRST..LAST", show_default="last and this"),
    ] = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="Ask TMDB which movies changed, and fetch those alone.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            help="With --changes: how far back.", metavar="LENGTH", show_default="since it was last asked"
        ),
    ] = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch again what is older than --max-age, or what changed, before anything else that waits."""
    age = parse_max_age(max_age)
    if since and not changes:
        raise UsageError(f"--since {since}: goes with --changes alone; without it, say --max-age")
    if changes and (years or genres != "all"):
        raise UsageError("--changes: TMDB tells changes of all movies; leave --genres and --years out")
    back = parse_duration(since, "--since") if since else None
    settings().require_key()
    if changes:
        _refresh_changes(back, detach=detach, quiet=quiet)
        return
    this = fleet_now().year
    wanted_years = parse_years(years) if years else [this - 1, this]
    run_backfill(new_backfill(genres, wanted_years, age), "refresh", detach=detach, quiet=quiet)


def _refresh_changes(back: timedelta | None, *, detach: bool, quiet: bool) -> None:
    out, now = console(quiet=quiet), fleet_now()
    known = changes_since()
    if known is None:
        raise UsageError("nothing is stored yet, so nothing can have changed: `reelhaul backfill --help`")
    since = now - back if back is not None else known
    ask(tmdb_client().check_key)  # a wrong key found out by any other request stops the fleet
    if now - since > LONGEST_GAP:
        sent = full_sweep(now)
        out.print(
            f"{(now - since).days} days since changes were read, TMDB tells those of {LONGEST_GAP.days}: "
            f"full sweep, {sent:,} messages sent; `reelhaul status --watch` shows how far it is"
        )
    total = _read_days(since, now, quiet=quiet)
    if since <= known:
        end_reading(storage(), now)
    close_api_client()
    enqueue_movies(map(MovieKey, total.wanted), "refresh")
    out.print(
        f"{len(total.listed):,} changed movies listed, {total.requests:,} requests: "
        f"{len(total.wanted):,} movies to fetch"
    )
    run_movie_requests(detach=detach, quiet=quiet)


def _read_days(since: datetime, now: datetime, *, quiet: bool) -> Reading:
    days, total = days_to_read(since, now), Reading()
    with progress_bar("days of changes", len(days), quiet=quiet) as on_day:
        for day in days:
            total.add(read_day(ask_changes, storage(), day, now, again=True))
            on_day()
    return total
