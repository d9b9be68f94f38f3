"""`reelhaul refresh`: fetch again what is old, or what changed."""

from datetime import datetime, timedelta
from typing import Annotated

import typer

from producer.cli.backfill import new_backfill
from producer.cli.follow import run_backfill, run_movie_requests
from producer.cli.options import Detach, Genres, Quiet, parse_max_age
from producer.cli.render import console, progress_bar
from producer.cli.tmdb import checked_tmdb
from producer.plan import parse_years
from producer.schedule.change_tasks import ask_changes
from producer.schedule.changes import LONGEST_GAP, ChangesPage, Place, end_reading, read_page
from producer.schedule.entries import changes_since, full_sweep
from worker.clients import fleet_now, storage
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.keys import MovieKey
from worker.movie_tasks import enqueue_movies
from worker.settings import settings


def refresh(  # noqa: PLR0913, PLR0917 -- a command's options
    max_age: Annotated[str, typer.Option(help="Fetch pages again that are older.", metavar="LENGTH")] = "1d",
    genres: Genres = "all",
    years: Annotated[
        str | None,
        typer.Option(
            help="Years of first release.", metavar="FIRST..LAST", show_default="last year and this year"
        ),
    ] = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="Fetch only the movies that TMDB lists as changed.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            help="With --changes: how far to look back.",
            metavar="LENGTH",
            show_default="to where the changes were last read",
        ),
    ] = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch again what is older than --max-age, or what changed, ahead of everything else in the queues."""
    age = parse_max_age(max_age)
    if since is not None and not changes:
        raise UsageError(f"--since {since!r}: needs --changes; without that, use --max-age")
    if changes and (years is not None or genres != "all"):
        raise UsageError("--changes covers all movies: leave out --genres and --years")
    back = parse_duration(since, "--since") if since is not None else None
    wanted_years = parse_years(years) if years is not None else None
    settings().require_key()
    if changes:
        _refresh_changes(back, detach=detach, quiet=quiet)
        return
    if wanted_years is None:
        this_year = fleet_now().year
        wanted_years = [this_year - 1, this_year]
    run_backfill(new_backfill(genres, wanted_years, age), "refresh", detach=detach, quiet=quiet)


def _refresh_changes(back: timedelta | None, *, detach: bool, quiet: bool) -> None:
    out, now = console(quiet=quiet), fleet_now()
    unknown_since = changes_since()
    if unknown_since is None:
        raise UsageError("nothing is stored yet, so nothing can have changed: `reelhaul backfill --help`")
    since = now - back if back is not None else unknown_since
    with checked_tmdb():
        if now - since > LONGEST_GAP:
            sent = full_sweep(now)
            out.print(
                f"{(now - since).days} days of changes are needed, TMDB keeps {LONGEST_GAP.days}: "
                f"full sweep, {sent:,} messages sent; `reelhaul status --watch` shows its progress"
            )
        pages = _read_changes(since, now, quiet=quiet)
        if since <= unknown_since:
            end_reading(storage(), now)
    listed = {id_ for page in pages for id_ in page.listed}
    requested = {id_ for page in pages for id_ in page.requested}
    enqueue_movies(map(MovieKey, requested), "refresh")
    out.print(
        f"{len(listed):,} changed movies listed, {len(pages):,} requests: {len(requested):,} movies to fetch"
    )
    run_movie_requests(detach=detach, quiet=quiet)


def _read_changes(since: datetime, now: datetime, *, quiet: bool) -> list[ChangesPage]:
    """Read the change feed to its end, with a progress bar of days."""
    pages: list[ChangesPage] = []
    first = Place.first(since, now)
    days = (now.date() - first.listed_on).days + 1
    place: Place | None = first
    with progress_bar("days of changes", days, quiet=quiet) as advance:
        while place:
            day = place.day
            pages.append(read_page(ask_changes, storage(), place, again=True))
            place = place.following(pages[-1].total_pages)
            if place is None or place.day != day:
                advance()
    return pages
