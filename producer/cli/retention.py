"""`reelhaul fresh`: is the data recent enough? `reelhaul expire`: delete what may not be kept."""

from dataclasses import asdict
from typing import Annotated

import typer

from producer.cli.options import AsJson, Yes
from producer.cli.render import console, print_json
from producer.freshness import freshness
from worker.clients import fleet_now, storage
from worker.durations import format_duration, format_seconds
from worker.settings import settings


def fresh(
    max_age: Annotated[
        str | None,
        typer.Option(help="How old a page may be.", metavar="LENGTH", show_default="REELHAUL_RETENTION"),
    ] = None,
    genres: Annotated[
        str | None,
        typer.Option(help="all, or names and ids", metavar="all|NAME|ID,...", show_default="those requested"),
    ] = None,
    years: Annotated[
        str | None,
        typer.Option(help="Years of first release.", metavar="FIRST..LAST", show_default="those requested"),
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the exit code.")] = False,
) -> None:
    """Does the data need an update? Exit 0 when no page is missing or older than --max-age, else 1."""
    found = freshness(max_age, genres, years)
    age = format_duration(found.max_age)
    if as_json:
        print_json(asdict(found) | {"max_age": age, "fresh": found.is_fresh})
    else:
        quarantined = f" ({found.quarantined:,} in quarantine)" if found.quarantined else ""
        takes = f"at least {format_seconds(found.takes_s)} at {settings().reelhaul_rate}"
        console(quiet=quiet).print(
            f"fresh: all {found.pages:,} pages are younger than {age}{quarantined}"
            if found.is_fresh
            else f"{found.stale:,} of {found.pages:,} pages are older than {age} or missing{quarantined}: "
            f"`reelhaul refresh` takes {takes}",
            soft_wrap=True,
        )
    if not found.is_fresh:
        raise typer.Exit(1)


def expire(
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted, delete nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what was not fetched again within REELHAUL_RETENTION; deleted pages count as missing."""
    retention = settings().reelhaul_retention
    before = fleet_now() - retention
    found, out = storage().count_expired(before), console(quiet=as_json)
    if any(found.values()):
        out.print(f"older than {format_duration(retention)}: {_listed(found)}")
    else:
        out.print(f"nothing is older than {format_duration(retention)}")
    if any(found.values()) and not dry_run:
        if not yes:
            question = "Delete them? `reelhaul refresh` would fetch them again instead."
            typer.confirm(question, abort=True, err=as_json)
        found = storage().delete_expired(before)
        out.print(f"deleted: {_listed(found)}")
    if as_json:
        print_json({"deleted": not dry_run, "documents": found})


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)
