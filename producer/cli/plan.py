"""`reelhaul plan`: what a backfill takes, before it runs."""

from typing import Annotated

import typer

from producer.cli.backfill import new_backfill
from producer.cli.dry_run import show_plan
from producer.cli.options import AsJson, Genres, MaxAge, Years, parse_max_age
from producer.plan import parse_years
from worker.settings import settings


def plan(
    genres: Genres = "all",
    years: Years = "1990..2025",
    max_age: MaxAge = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask TMDB for first pages of a sample; none is stored.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a backfill takes: requests, time, memory; and which plan is cheaper."""
    wanted_years, age = parse_years(years), parse_max_age(max_age)
    settings().require_key()
    show_plan(new_backfill(genres, wanted_years, age), probe=probe, as_json=as_json)
