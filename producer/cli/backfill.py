"""`reelhaul backfill`: fetch every movie of some genres and years."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from producer.cli.dry_run import show_plan
from producer.cli.follow import run_request
from producer.cli.genre_names import current_genres
from producer.cli.options import (
    AsJson,
    By,
    Detach,
    Genres,
    MaxAge,
    Quiet,
    Years,
    chosen_years,
    parse_max_age,
)
from producer.plan import Way, parse_genres, parse_years
from producer.requests.backfills import Backfill
from worker.clients import fleet_now
from worker.errors import UsageError
from worker.keys import ANY_GENRE
from worker.settings import settings


def backfill(  # noqa: PLR0913, PLR0917 -- a command's options
    genres: Genres = "all",
    years: Years = None,
    max_age: MaxAge = None,
    by: By = Way.GENRE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan as `reelhaul plan` does, fetch no movies.")
    ] = False,
    detach: Detach = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch every movie of the genres and years that is not stored yet."""
    wanted = chosen_backfill(genres, years, max_age, by)
    if dry_run:
        show_plan(wanted, as_json=as_json)
    else:
        run_request(wanted, detach=detach, quiet=quiet, as_json=as_json)


def chosen_backfill(genres: str, years: str | None, max_age: str | None, by: Way) -> Backfill:
    """The backfill that a command's options ask for; UsageError also without a key."""
    if by is Way.DATE and genres != "all":
        raise UsageError(f"--by date fetches every genre: leave --genres {genres!r} out")
    age = parse_max_age(max_age)
    if years is not None:
        parse_years(years)  # before the key: what is wrong with the command is said first
    settings().require_key()
    return new_backfill(genres, chosen_years(years), age, by)


def new_backfill(genres: str, years: Sequence[int], max_age: timedelta, by: Way = Way.GENRE) -> Backfill:
    """A backfill requested now."""
    chosen: Mapping[int, str] = {ANY_GENRE: "any genre"}
    if by is Way.GENRE:
        names = current_genres()
        chosen = {genre_id: names[genre_id] for genre_id in parse_genres(genres, names)}
    return Backfill(chosen, tuple(years), max_age, fleet_now())
