"""`reelhaul import`: merge movies that somebody already has."""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import AsJson, Quiet
from producer.cli.render import console, counted, print_json, progress_bar
from producer.import_file import import_movies
from worker.clients import fleet_now, storage
from worker.durations import format_duration
from worker.errors import UsageError
from worker.settings import settings


def import_file(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines or one JSON array, gzip or not.", metavar="FILE.jsonl")
    ],
    fetched_at: Annotated[
        str,
        typer.Option(
            help="When TMDB sent all of it: an ISO 8601 date or time, UTC unless it says otherwise.",
            metavar="TIME",
        ),
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Merge movies from a file: of two versions of a movie the one fetched later stays.

    The file holds list items as TMDB sends them and `export` writes them, or details, of which the list item
    is taken. All of it is checked before anything is stored. No page counts as fetched because of it.
    """
    quiet = quiet or as_json
    at = parse_fetched_at(fetched_at, fleet_now(), settings().reelhaul_retention)
    checking, merging = (
        partial(progress_bar, name, quiet=quiet, in_bytes=True) for name in ("checked", "imported")
    )
    done = import_movies(storage(), file, at, checking, merging)
    if as_json:
        counts = {name: getattr(done, name) for name in ("movies", "new", "changed", "unchanged")}
        print_json({"file": file.name, **counts})
    console(quiet=quiet).print(
        f"{counted(done.movies, 'movie')} imported from {escape(file.name)}: "
        f"{done.new:,} new, {done.changed:,} changed, {done.unchanged:,} unchanged",
        soft_wrap=True,
    )


def parse_fetched_at(text: str, now: datetime, retention: timedelta) -> datetime:
    """The moment, in milliseconds as MongoDB holds it; a date is its first moment. UsageError names the need.

    Nothing older than the retention is let in: TMDB's terms forbid keeping it, and `expire` would delete it.
    """
    named = f"--fetched-at {text!r}"
    try:
        moment = datetime.fromisoformat(text.strip())
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{named}: expected a date or time in ISO 8601, for instance 2026-05-15 or 2026-05-15T09:30Z"
        ) from None
    if at > now:
        raise UsageError(f"{named}: expected a time in the past; it is {now:%Y-%m-%d %H:%M} UTC")
    if at < now - retention:
        raise UsageError(
            f"{named}: older than REELHAUL_RETENTION ({format_duration(retention)}), after which nothing "
            "may be kept: fetch it again, or raise REELHAUL_RETENTION if TMDB lets you keep it for longer"
        )
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
