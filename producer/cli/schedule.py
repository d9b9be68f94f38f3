"""`reelhaul schedule`: what happens by itself, when it last did, and how that went."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from producer.cli.render import console, span
from producer.enqueue import lacking
from producer.schedule.config import DEFAULT, ScheduleEntry, schedule_entries
from producer.schedule.tasks import perform, running
from worker.clients import fleet_now, storage
from worker.durations import format_duration
from worker.errors import UsageError
from worker.storage.mongo import Document

schedule = typer.Typer(
    add_completion=False, invoke_without_command=True, help="What happens by itself: list it, run it now."
)


@schedule.callback()
def overview(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    default: Annotated[
        bool,
        typer.Option("--default", help="The default schedule as TOML, to begin a REELHAUL_SCHEDULE with."),
    ] = False,
) -> None:
    """List the duties, unless a subcommand follows."""
    if context.invoked_subcommand:
        return
    if default:
        typer.echo(DEFAULT, nl=False)
        return
    rows = [_row(duty) for duty in _duties()]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    now = datetime.now(UTC)
    table = Table("duty", "does", "every", "last run", "next run", "outcome", box=None, pad_edge=False)
    for row in rows:
        last, following = (_ago(row[name], now) for name in ("last_run", "next_run"))
        words = (row["duty"], row["does"], row["every"], last, following, row["outcome"])
        table.add_row(*map(escape, words))
    console().print(table)


@schedule.command()
def run(name: Annotated[str, typer.Argument(help="A duty that `reelhaul schedule` lists.")]) -> None:
    """Do a duty now, whenever it is due; exit 1 when its last run has not ended."""
    duties = schedule_entries()
    if name not in duties:
        raise UsageError(f"duty {name!r}: expected one of {', '.join(duties)}")
    now = fleet_now()
    notes = storage().schedule.states()
    if running(notes.get(name), _lacking(notes), now):
        console().print(
            f"{name}: its last run has not ended; `reelhaul schedule` and `reelhaul status` tell more"
        )
        raise typer.Exit(1)
    if not storage().schedule.claim(name, timedelta(milliseconds=1), now):
        raise UsageError(f"{name}: somebody else has just begun it; `reelhaul schedule` tells how it goes")
    console().print(f"{name}: {perform(duties[name], now)}", markup=False)


def _duties() -> list[tuple[ScheduleEntry, dict[str, Any], bool]]:
    notes = storage().schedule.states()
    begun, now = _lacking(notes), datetime.now(UTC)
    return [
        (duty, notes.get(duty.name, {}), running(notes.get(duty.name), begun, now))
        for duty in schedule_entries().values()
    ]


def _lacking(notes: dict[str, Document]) -> set[str]:
    """Backfills of duties that lack pages."""
    return lacking(storage(), {id_ for note in notes.values() for id_ in note.get("backfills", ())})


def _row(known: tuple[ScheduleEntry, dict[str, Any], bool]) -> dict[str, str]:
    duty, note, is_running = known
    claimed_at: datetime | None = note.get("claimed_at")
    if claimed_at and claimed_at.year == 1970:  # put off
        claimed_at = None
    outcome = note.get("outcome", "")
    return {
        "duty": duty.name,
        "does": duty.do,
        "every": format_duration(duty.every),
        "last_run": claimed_at.isoformat() if claimed_at else "",
        "next_run": (claimed_at + duty.every).isoformat() if claimed_at else "",
        "outcome": f"running: {outcome}" if is_running else outcome,
    }


def _ago(moment: str, now: datetime) -> str:
    """How long ago, or how soon; for no moment: `never` or, of what comes, `at the next look`."""
    if not moment:
        return "-"
    seconds = (datetime.fromisoformat(moment) - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"
