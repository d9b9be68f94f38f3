"""The commands that plan, watch and read: arguments in, exit code out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from producer.display import advancing, console
from producer.enqueue import Backfill, begin
from producer.export import export_movies
from producer.plan import parse_duration, parse_genres, parse_years
from producer.status import measure
from producer.watch import follow, last_line
from worker.bootstrap import fleet_now, hang_up, limiter, store, tmdb_client
from worker.settings import settings

#: Names of genres change once in years: ask for them again when they are older.
GENRES_AGE = timedelta(days=30)
#: Seconds to wait for a token where a person waits for an answer.
PATIENCE_S = 60.0

Genres = Annotated[str, typer.Option(help="all, or names and ids: Drama,35", metavar="all|NAME|ID,...")]
Years = Annotated[str, typer.Option(help="Years of first release.", metavar="FIRST..LAST")]
MaxAge = Annotated[
    str | None,
    typer.Option(help="Fetch again what is older: 12h, 30d.", metavar="LENGTH", show_default="never"),
]
Detach = Annotated[bool, typer.Option("--detach", help="Enqueue and return; workers go on.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def backfill(  # noqa: PLR0913, PLR0917 -- a command's options
    genres: Genres = "all",
    years: Years = "1990..2025",
    max_age: MaxAge = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, fetch no movies.")] = False,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch every movie of the genres and years that is not stored yet."""
    wanted_years = parse_years(years)
    age = parse_duration(max_age, "--max-age") if max_age else None
    settings().require_key()
    wanted = request(genres, wanted_years, age)
    if dry_run:
        _show_plan(wanted)
    else:
        _run(wanted, "cells", detach=detach, quiet=quiet)


def refresh(
    max_age: Annotated[str, typer.Option(help="Fetch again what is older.", metavar="LENGTH")] = "1d",
    genres: Genres = "all",
    years: Annotated[
        str | None,
        typer.Option(help="Years of first release.", metavar="FIRST..LAST", show_default="last and this"),
    ] = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch again what is older than --max-age, before anything else that waits."""
    age = parse_duration(max_age, "--max-age")
    settings().require_key()
    this = fleet_now().year
    wanted_years = parse_years(years) if years else [this - 1, this]
    _run(request(genres, wanted_years, age), "refresh", detach=detach, quiet=quiet)


def export(
    file: Annotated[Path, typer.Argument(help="FILE.jsonl or FILE.jsonl.gz", metavar="FILE.jsonl")],
    quiet: Quiet = False,
) -> None:
    """Write the stored movies, one JSON object a line, as TMDB sent them."""
    with advancing("movies", store().count_movies(), quiet=quiet) as on_movie:
        written = export_movies(store(), file, on_movie)
    console(quiet=quiet).print(f"{written:,} movies written to {file}")


def request(genres: str, years: Sequence[int], max_age: timedelta | None) -> Backfill:
    """The backfill that the words ask for, as of now."""
    names = _genre_names()
    chosen = parse_genres(genres, names)
    return Backfill({genre_id: names[genre_id] for genre_id in chosen}, tuple(years), max_age, fleet_now())


def _genre_names() -> dict[int, str]:
    """Known names, else asked for; the request goes through the fleet's gate like any other."""
    now = fleet_now()
    names = store().named_genres(now - GENRES_AGE)
    if not names:
        deadline = time.monotonic() + PATIENCE_S
        tmdb_client().check_key(deadline)
        store().name_genres(tmdb_client().genres(deadline), now)
        names = store().named_genres()
    return names


def _show_plan(wanted: Backfill) -> None:
    progress = measure(store(), wanted)
    total, rate = progress.total, settings().reelhaul_rate.per_s
    unknown = total.cells - total.opened
    console().print(
        f"{total.cells:,} cells: {len(wanted.genres)} genres x {len(wanted.years)} years\n"
        f"{total.stored:,} of {total.planned:,} known pages stored, {total.missing:,} to fetch: "
        f"at least {total.missing / rate:,.0f} s at {rate:g}/s\n"
        f"{unknown:,} cells whose length their first page will tell"
    )


def _run(wanted: Backfill, lane: str, *, detach: bool, quiet: bool) -> None:
    out = console(quiet=quiet)
    if limiter().look().stopped:
        tmdb_client().check_key(time.monotonic() + PATIENCE_S)  # opens the gate when the key was mended
    hang_up()
    sent = begin(store(), wanted, lane)
    if detach:
        out.print(
            f"backfill {wanted.id}: {sent:,} messages sent; `reelhaul status --watch` shows how far it is"
        )
        return
    try:
        ended = follow(store(), limiter(), wanted, quiet=quiet)
    except KeyboardInterrupt:
        out.print(
            f"\ndetached; the workers go on with backfill {wanted.id}. "
            "`reelhaul status --watch` shows how far it is, the same command comes back to it"
        )
        return
    out.print(last_line(ended))
    if ended.total.quarantined:
        raise typer.Exit(1)
