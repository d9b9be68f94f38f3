"""`reelhaul plan`: what a backfill takes, before it runs."""

from typing import Annotated

import typer

from producer.cli.backfill import chosen_backfill
from producer.cli.dry_run import show_plan
from producer.cli.options import AsJson, By, Genres, MaxAge, Years
from producer.plan import Way


def plan(  # noqa: PLR0913, PLR0917 -- a command's options
    genres: Genres = "all",
    years: Years = None,
    max_age: MaxAge = None,
    by: By = Way.GENRE,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask TMDB for first pages of a sample; none is stored.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a backfill takes: requests, time, memory; and which plan is cheaper."""
    show_plan(chosen_backfill(genres, years, max_age, by), probe=probe, as_json=as_json)
