"""`reelhaul limit`: show and change the fleet's limiter while it works."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from producer.cli.options import AsJson, command_group
from producer.cli.render import console, limiter_status, print_json
from worker.clients import limiter
from worker.durations import format_seconds, parse_duration
from worker.limiter.rate import Rate
from worker.limiter.state import LimiterState

limit = command_group("Show the fleet's limit, or change it for all workers at once.")


@limit.callback()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the limiter, unless a subcommand follows."""
    if context.invoked_subcommand:
        return
    state = limiter().state()
    if as_json:
        print_json(_figures(state))
        return
    table = Table.grid(padding=(0, 2))
    table.add_row("configured", str(state.configured))
    table.add_row("current", f"{state.current_per_s:.4g}/s")
    table.add_row("limiter", limiter_status(state))
    table.add_row(
        "tokens", f"{state.tokens:,}" if state.tokens else f"next in {format_seconds(state.next_s)}"
    )
    table.add_row("used", f"{state.utilisation(10):.1%} of 10 s, {state.utilisation(60):.1%} of 60 s")
    table.add_row("requests", f"{state.granted:,} granted, {state.refused:,} refused")
    console().print(table)


@limit.command("set")
def set_rate(
    rate: Annotated[str, typer.Argument(help="20/s, 40/10s, 1/hour; default: the workers' configured rate.")],
    as_json: AsJson = False,
) -> None:
    """Replace the configured rate for all workers, from now on."""
    limiter().set_rate(None if rate == "default" else Rate.parse(rate))
    state = limiter().state()
    _print_change(state, f"limit {state.configured}", as_json=as_json)


@limit.command()
def pause(
    length: Annotated[
        str | None, typer.Option("--for", help="Resume by itself after this long.", metavar="LENGTH")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Close the limiter, for a while or until `resume`."""
    seconds = parse_duration(length, "--for").total_seconds() if length is not None else None
    limiter().pause(seconds)
    state = limiter().state()
    _print_change(state, f"limiter {limiter_status(state)}", as_json=as_json)


@limit.command()
def resume(as_json: AsJson = False) -> None:
    """Open the limiter, whatever closed it."""
    limiter().resume()
    _print_change(limiter().state(), "limiter open", as_json=as_json)


def _print_change(state: LimiterState, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_figures(state))
    else:
        console().print(text)


def _figures(state: LimiterState) -> dict[str, object]:
    figures = asdict(state) | {
        "configured": str(state.configured),
        "current_per_s": state.current_per_s,
        "utilisation_10s": round(state.utilisation(10), 4),
        "utilisation_60s": round(state.utilisation(60), 4),
    }
    del figures["granted_by_age"]
    return figures
