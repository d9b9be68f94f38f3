"""`reelhaul fresh` and `expire`: is the data young enough, and away with what may not be kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from producer.cli.render import console, span
from producer.freshness import freshness
from worker.clients import fleet_now, storage
from worker.durations import format_duration
from worker.settings import settings


def fresh(
    max_age: Annotated[
        str | None,
        typer.Option(help="How old a page may be.", metavar="LENGTH", show_default="REELHAUL_RETENTION"),
    ] = None,
    genres: Annotated[
        str | None,
        typer.Option(help="all, or names and ids", metavar="all|NAME|ID,...", show_default="asked for"),
    ] = None,
    years: Annotated[
        str | None,
        typer.Option(help="Years of first release.", metavar="FIRST..LAST", show_default="asked for"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the exit code.")] = False,
) -> None:
    """Does the data need an update? Exit 0 when nothing is older than --max-age or missing, else 1."""
    found = freshness(max_age, genres, years)
    age = format_duration(found.max_age)
    if as_json:
        figures = asdict(found) | {"max_age": age, "fresh": found.is_fresh}
        typer.echo(json.dumps(figures))
    else:
        given_up = f" ({found.quarantined:,} in quarantine)" if found.quarantined else ""
        rate = settings().reelhaul_rate
        console(quiet=quiet).print(
            f"fresh: all {found.pages:,} pages are younger than {age}{given_up}"
            if found.is_fresh
            else f"{found.stale:,} of {found.pages:,} pages are older than {age} or missing{given_up}: "
            f"at least {span(found.takes_s)} at {rate}, `reelhaul refresh`",
            soft_wrap=True,
        )
    if not found.is_fresh:
        raise typer.Exit(1)


def expire(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, delete nothing.")] = False,
) -> None:
    """Delete what was not fetched again within REELHAUL_RETENTION; pages that go count as missing."""
    retention = settings().reelhaul_retention
    before = fleet_now() - retention
    found = storage().count_expired(before)
    out = console()
    if not any(found.values()):
        out.print(f"nothing is older than {format_duration(retention)}")
        return
    out.print(
        f"older than {format_duration(retention)}: "
        + ", ".join(f"{n:,} {name}" for name, n in found.items() if n)
    )
    if dry_run:
        return
    if not yes:
        typer.confirm("Delete them? `reelhaul refresh` would fetch them again instead.", abort=True)
    gone = storage().delete_expired(before)
    out.print("deleted: " + ", ".join(f"{n:,} {name}" for name, n in gone.items() if n))
