"""`reelhaul refresh`: fetch again what is old, or what changed."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from producer.cli.backfill import new_backfill
from producer.cli.follow import run_request
from producer.cli.options import AsJson, Detach, Quiet, parse_max_age
from producer.cli.render import console
from producer.cli.tmdb import open_limiter
from producer.enqueue import requested_backfills
from producer.plan import parse_years
from producer.requests.backfills import Backfill
from producer.requests.changes import Changes
from producer.requests.request import Request
from producer.schedule.entries import new_reading
from worker.clients import fleet_now, storage
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.settings import settings


def refresh(  # noqa: PLR0913, PLR0917 -- a command's options
    max_age: Annotated[str, typer.Option(help="Fetch pages again that are older.", metavar="LENGTH")] = "1d",
    genres: Annotated[
        str | None,
        typer.Option(
            help="all, or names and ids: Drama,35",
            metavar="all|NAME|ID,...",
            show_default="those requested for the years",
        ),
    ] = None,
    years: Annotated[
        str | None,
        typer.Option(
            help="Years of first release.", metavar="FIRST..LAST", show_default="last year and this year"
        ),
    ] = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="Fetch the stored movies that TMDB lists as changed.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            help="With --changes: how far to look back.",
            metavar="LENGTH",
            show_default="to where the changes were last read",
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="With --changes: also movies that are not stored.")
    ] = False,
    detach: Detach = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch again what is older than --max-age, or what changed, ahead of everything else in the queues."""
    age = parse_max_age(max_age)
    if since is not None and not changes:
        raise UsageError(f"--since {since!r}: needs --changes; without that, use --max-age")
    if new and not changes:
        raise UsageError("--new needs --changes: which movies are new, only the change feed tells")
    if changes and (years is not None or genres is not None):
        raise UsageError("--changes covers all movies: leave out --genres and --years")
    back = parse_duration(since, "--since") if since is not None else None
    wanted_years = parse_years(years) if years is not None else None
    settings().require_key()
    if changes:
        open_limiter()
        wanted: Request = _changes(back, new=new, quiet=quiet or as_json)
    else:
        if wanted_years is None:
            this_year = fleet_now().year
            wanted_years = [this_year - 1, this_year]
        if genres is None:
            wanted = Backfill(_requested_genres(wanted_years), tuple(wanted_years), age, fleet_now())
        else:
            wanted = new_backfill(genres, wanted_years, age)
    run_request(wanted, "refresh", detach=detach, quiet=quiet, as_json=as_json)


def _requested_genres(years: Sequence[int]) -> dict[int, str]:
    """The genres that backfills asked for in any of the years; UsageError for none."""
    backfills = (one for one in requested_backfills(storage()) if not set(years).isdisjoint(one.years))
    found = {id_: name for backfill in backfills for id_, name in backfill.genres.items()}
    if not found:
        raise UsageError("no backfill asked for these years: name genres with --genres, all for all of them")
    return found


def _changes(back: timedelta | None, *, new: bool, quiet: bool) -> Changes:
    """A reading of the changes; UsageError when nothing is stored."""
    now = fleet_now()
    found = new_reading(now, since=now - back if back is not None else None, again=True, new=new)
    if found is None:
        raise UsageError("nothing is stored yet, so nothing can have changed: `reelhaul backfill --help`")
    reading, swept = found
    if swept:
        console(quiet=quiet).print(f"{swept}; `reelhaul status --watch` shows its progress")
    return reading
