"""`reelhaul backfill`: fetch every movie of some genres and years."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from producer.cli.dry_run import show_plan
from producer.cli.follow import run_request
from producer.cli.genre_names import current_genres
from producer.cli.options import AsJson, Detach, Genres, MaxAge, Quiet, Years, parse_max_age
from producer.plan import parse_genres, parse_years
from producer.requests.backfills import Backfill
from worker.clients import fleet_now
from worker.errors import UsageError
from worker.keys import ANY_GENRE
from worker.settings import settings


def backfill(  # noqa: PLR0913, PLR0917 -- a command's options
    genres: Genres = "all",
    years: Years = "1990..2025",
    max_age: MaxAge = None,
    no_genre: Annotated[
        bool,
        typer.Option("--no-genre", help="Each year as a whole, including movies without a genre."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan as `reelhaul plan` does, fetch no movies.")
    ] = False,
    detach: Detach = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch every movie of the genres and years that is not stored yet."""
    if no_genre and genres != "all":
        raise UsageError(f"--no-genre covers every genre: leave --genres {genres!r} out")
    wanted_years, age = parse_years(years), parse_max_age(max_age)
    settings().require_key()
    wanted = new_backfill(None if no_genre else genres, wanted_years, age)
    if dry_run:
        show_plan(wanted, as_json=as_json)
    else:
        run_request(wanted, detach=detach, quiet=quiet, as_json=as_json)


def new_backfill(genres: str | None, years: Sequence[int], max_age: timedelta) -> Backfill:
    """A backfill requested now; `genres` None: each year as a whole."""
    chosen: Mapping[int, str] = {ANY_GENRE: "any genre"}
    if genres is not None:
        names = current_genres()
        chosen = {genre_id: names[genre_id] for genre_id in parse_genres(genres, names)}
    return Backfill(chosen, tuple(years), max_age, fleet_now())
