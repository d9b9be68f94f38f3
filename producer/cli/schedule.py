"""`reelhaul schedule`: list the schedule's entries with their last runs, and run one now."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.options import AsJson, command_group
from producer.cli.render import console, plain_table, print_json
from producer.enqueue import incomplete
from producer.schedule.config import DEFAULT, ScheduleEntry, schedule_entries
from producer.schedule.entries import NEVER, perform
from worker.clients import fleet_now, storage
from worker.durations import format_duration, format_seconds
from worker.errors import UsageError
from worker.storage.mongo import Document

schedule = command_group("List what Reelhaul does by itself, or run it now.")


@schedule.callback()
def overview(
    context: typer.Context,
    as_json: AsJson = False,
    default: Annotated[
        bool,
        typer.Option("--default", help="The default schedule as TOML, a template for REELHAUL_SCHEDULE."),
    ] = False,
) -> None:
    """List the schedule's entries, unless a subcommand follows."""
    if context.invoked_subcommand:
        return
    if default:
        typer.echo(DEFAULT, nl=False)
        return
    states, now = storage().schedule.states(), datetime.now(UTC)
    unfinished = _incomplete_requests(states)
    rows = [
        _row(entry, state, running=not unfinished.isdisjoint(state.get("requests", ())))
        for entry in schedule_entries().values()
        for state in [states.get(entry.name, {})]
    ]
    if as_json:
        print_json(rows)
        return
    table = plain_table("schedule entry", "does", "every", "last run", "next run", "outcome")
    for row in rows:
        last, following = (_relative(row[name], now) for name in ("last_run", "next_run"))
        cells = (row["schedule_entry"], row["does"], row["every"], last, following, row["outcome"])
        table.add_row(*map(escape, cells))
    console().print(table)


@schedule.command()
def run(name: Annotated[str, typer.Argument(help="A name that `reelhaul schedule` lists.")]) -> None:
    """Run a schedule entry now, whether it is due or not; exit 1 when its last run has not ended."""
    entries = schedule_entries()
    if name not in entries:
        raise UsageError(f"schedule entry {name!r}: expected one of {', '.join(entries)}")
    now = fleet_now()
    states = storage().schedule.states()
    if incomplete(storage(), states.get(name, {}).get("requests", ())):
        console().print(f"{name}: its last run has not ended; see `reelhaul schedule` and `reelhaul status`")
        raise typer.Exit(1)
    if not storage().schedule.claim(name, timedelta(milliseconds=1), now):
        raise UsageError(f"{name}: somebody else has just started it; see `reelhaul schedule`")
    console().print(f"{name}: {perform(entries[name], now)}", markup=False)


def _incomplete_requests(states: dict[str, Document]) -> set[str]:
    """Ids of the entries' requests that lack anything."""
    return incomplete(storage(), {id_ for state in states.values() for id_ in state.get("requests", ())})


def _row(entry: ScheduleEntry, state: Document, *, running: bool) -> dict[str, str]:
    begun: datetime = state.get("claimed_at", NEVER)
    outcome = state.get("outcome", "")
    return {
        "schedule_entry": entry.name,
        "does": entry.do,
        "every": format_duration(entry.every),
        "last_run": begun.isoformat() if begun > NEVER else "",
        "next_run": (begun + entry.every).isoformat() if begun > NEVER else "",
        "outcome": f"running: {outcome}" if running else outcome,
    }


def _relative(moment: str, now: datetime) -> str:
    """`5m 03s ago`, `in 2h 05m`, `now`; `-` for no moment."""
    if not moment:
        return "-"
    seconds = (datetime.fromisoformat(moment) - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {format_seconds(seconds)}" if seconds > 0 else f"{format_seconds(-seconds)} ago"
