"""`reelhaul backfill`: fetch every movie of some genres and years."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from producer.cli.follow import follow, last_line
from producer.cli.options import Detach, Genres, MaxAge, Quiet, Years
from producer.cli.render import console
from producer.enqueue import Backfill, enqueue_backfill
from producer.plan import parse_genres, parse_years
from producer.progress import measure
from worker.clients import close_api_client, fleet_now, limiter, storage, tmdb_client
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.keys import ANY_GENRE
from worker.retry import ask
from worker.settings import settings

#: Names of genres change once in years: ask for them again when they are older.
GENRES_AGE = timedelta(days=30)
#: In the place of genres: none at all.
ANY = ""
#: Seconds to wait for a token where a person waits for an answer.
PATIENCE_S = 60.0


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
        run(wanted, "cells", detach=detach, quiet=quiet)


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


def run(wanted: Backfill, lane: str, *, detach: bool, quiet: bool) -> None:
    out = console(quiet=quiet)
    _open_limiter()
    close_api_client()
    sent = enqueue_backfill(storage(), wanted, lane)
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


def _open_limiter() -> None:
    """The gate opens when the key was mended since it shut."""
    if limiter().state().stopped:
        tmdb_client().check_key(time.monotonic() + PATIENCE_S)
