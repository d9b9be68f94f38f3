"""The commands that plan, watch and read: arguments in, exit code out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from producer.cli.follow import follow, follow_movies, last_line
from producer.cli.render import advancing, console
from producer.enqueue import Backfill, begin
from producer.export import export_movies
from producer.plan import parse_genres, parse_years
from producer.progress import measure
from producer.schedule.change_tasks import ask_changes
from producer.schedule.changes import LONGEST_GAP, Reading, days_to_read, end_reading, read_day
from producer.schedule.tasks import changes_since, full_sweep
from worker.clients import close_api_client, fleet_now, limiter, storage, tmdb_client
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.keys import ANY_GENRE, MovieKey
from worker.movie_tasks import enqueue_movies
from worker.retry import ask
from worker.settings import settings

#: PageLabels of genres change once in years: ask for them again when they are older.
GENRES_AGE = timedelta(days=30)
#: In the place of genres: none at all.
ANY = ""
#: Seconds to wait for a token where a person waits for an answer.
PATIENCE_S = 60.0

Genres = Annotated[str, typer.Option(help="all, or names and ids: Drama,35", metavar="all|NAME|ID,...")]
Years = Annotated[str, typer.Option(help="Years of first release.", metavar="FIRST..LAST")]
MaxAge = Annotated[
    str | None,
    typer.Option(
        help="Fetch again what is older: 12h, 30d.", metavar="LENGTH", show_default="REELHAUL_RETENTION"
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Enqueue and return; workers go on.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def backfill(  # noqa: PLR0913, PLR0917 -- a command's options
    genres: Genres = "all",
    years: Years = "1990..2025",
    max_age: MaxAge = None,
    no_genre: Annotated[
        bool,
        typer.Option(
            "--no-genre", help="Each year as a whole, whatever the genre: movies without one are there too."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, fetch no movies.")] = False,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch every movie of the genres and years that is not stored yet."""
    if no_genre and genres != "all":
        raise UsageError(f"--no-genre takes every genre: leave --genres {genres!r} out")
    wanted_years = parse_years(years)
    age = parse_duration(max_age, "--max-age") if max_age else None
    settings().require_key()
    wanted = request(ANY if no_genre else genres, wanted_years, age)
    if dry_run:
        _show_plan(wanted)
    else:
        _run(wanted, "cells", detach=detach, quiet=quiet)


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
    age = parse_duration(max_age, "--max-age")
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
    _run(request(genres, wanted_years, age), "refresh", detach=detach, quiet=quiet)


def export(
    file: Annotated[Path, typer.Argument(help="FILE.jsonl or FILE.jsonl.gz", metavar="FILE.jsonl")],
    quiet: Quiet = False,
) -> None:
    """Write the stored movies, one JSON object a line, as TMDB sent them."""
    with advancing("movies", storage().movies.count(), quiet=quiet) as on_movie:
        written = export_movies(storage(), file, on_movie)
    console(quiet=quiet).print(f"{written:,} movies written to {file}")


def request(genres: str, years: Sequence[int], max_age: timedelta | None) -> Backfill:
    """The backfill that the words ask for, as of now; ANY: one that asks for no genre."""
    names = {ANY_GENRE: "any genre"} if genres == ANY else _genre_names()
    chosen = list(names) if genres == ANY else parse_genres(genres, names)
    retention = settings().reelhaul_retention
    age = min(max_age, retention) if max_age is not None else retention
    return Backfill({genre_id: names[genre_id] for genre_id in chosen}, tuple(years), age, fleet_now())


def _genre_names() -> dict[int, str]:
    """Known names, else asked for; the request goes through the fleet's gate like any other."""
    now = fleet_now()
    names = storage().genres.names(now - GENRES_AGE)
    if not names:
        ask(tmdb_client().check_key)
        storage().genres.save(ask(tmdb_client().genres), now)
        names = storage().genres.names()
    return names


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
    follow_wanted(detach=detach, quiet=quiet)


def _read_days(since: datetime, now: datetime, *, quiet: bool) -> Reading:
    days, total = days_to_read(since, now), Reading()
    with advancing("days of changes", len(days), quiet=quiet) as on_day:
        for day in days:
            total.add(read_day(ask_changes, storage(), day, now, again=True))
            on_day()
    return total


def follow_wanted(*, detach: bool, quiet: bool) -> None:
    """Wait until no movie is wanted any more; Ctrl-C detaches."""
    out = console(quiet=quiet)
    if detach:
        out.print(f"{storage().movie_requests.count():,} movies wait for the workers")
        return
    try:
        follow_movies(storage(), limiter(), quiet=quiet)
    except KeyboardInterrupt:
        left = storage().movie_requests.count()
        out.print(f"\ndetached; beat feeds the workers what is left: {left:,} movies")


def _show_plan(wanted: Backfill) -> None:
    progress = measure(storage(), wanted)
    total, rate = progress.total, settings().reelhaul_rate.per_s
    unknown = total.cells - total.opened
    console().print(
        f"{total.cells:,} cells: {len(wanted.genres)} genres x {len(wanted.years)} years\n"
        f"{total.stored:,} of {total.planned:,} known pages stored, {total.missing:,} to fetch: "
        f"at least {total.missing / rate:,.0f} s at {rate:g}/s\n"
        f"{unknown:,} cells whose length their first page will tell"
    )


def _open_gate() -> None:
    """The gate opens when the key was mended since it shut."""
    if limiter().state().stopped:
        tmdb_client().check_key(time.monotonic() + PATIENCE_S)


def _run(wanted: Backfill, lane: str, *, detach: bool, quiet: bool) -> None:
    out = console(quiet=quiet)
    _open_gate()
    close_api_client()
    sent = begin(storage(), wanted, lane)
    if detach:
        out.print(
            f"backfill {wanted.id}: {sent:,} messages sent; `reelhaul status --watch` shows how far it is"
        )
        return
    try:
        ended = follow(storage(), limiter(), wanted, quiet=quiet)
    except KeyboardInterrupt:
        out.print(
            f"\ndetached; the workers go on with backfill {wanted.id}. "
            "`reelhaul status --watch` shows how far it is, the same command comes back to it"
        )
        return
    out.print(last_line(ended))
    if ended.total.quarantined:
        raise typer.Exit(1)
