"""`reelhaul limit`: the fleet's gate, shown and changed while it works."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from producer.cli.render import console, shut_line, span
from worker.clients import limiter
from worker.durations import parse_duration
from worker.limiter.rate import Rate
from worker.limiter.state import LimiterState

limit = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    help="Show the fleet's limit, or change it for all workers at once.",
)


@limit.callback()
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the gate, unless a subcommand follows."""
    if context.invoked_subcommand:
        return
    gate = limiter().state()
    if as_json:
        typer.echo(json.dumps(_figures(gate)))
        return
    table = Table.grid(padding=(0, 2))
    table.add_row("configured", str(gate.configured))
    table.add_row("current", f"{gate.current_per_s:.4g}/s")
    table.add_row("gate", shut_line(gate) or "open")
    table.add_row("tokens", f"{gate.tokens}" if gate.tokens else f"next in {span(gate.next_s)}")
    table.add_row("used", f"{gate.utilisation(10):.1%} of 10 s, {gate.utilisation(60):.1%} of 60 s")
    table.add_row("requests", f"{gate.granted:,} granted, {gate.refused:,} refused")
    console().print(table)


@limit.command("set")
def set_rate(
    rate: Annotated[
        str, typer.Argument(help="20/s, 40/10s, 1/hour; default: what the workers are configured to.")
    ],
) -> None:
    """Replace the configured rate, for all workers, from now on."""
    limiter().set_rate(None if rate == "default" else Rate.parse(rate))
    console().print(f"limit {limiter().state().configured}")


@limit.command()
def pause(
    length: Annotated[
        str | None, typer.Option("--for", help="Go on by itself after this long.", metavar="LENGTH")
    ] = None,
) -> None:
    """Let nothing through, for a while or until `resume`."""
    limiter().pause(parse_duration(length, "--for").total_seconds() if length else None)
    console().print(shut_line(limiter().state()))


@limit.command()
def resume() -> None:
    """Open the gate, whatever shut it."""
    limiter().resume()
    console().print("gate open")


def _figures(gate: LimiterState) -> dict[str, object]:
    figures = asdict(gate) | {
        "configured": str(gate.configured),
        "current_per_s": gate.current_per_s,
        "utilisation_10s": round(gate.utilisation(10), 4),
        "utilisation_60s": round(gate.utilisation(60), 4),
    }
    return {name: value for name, value in figures.items() if not name.endswith("_by_age")}
