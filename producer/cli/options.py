"""Options that several commands share."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from producer.plan import DEFAULT_SINCE, Way, parse_years
from worker.clients import fleet_now
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.settings import settings

_DAY = re.compile(r"\d{4}-\d\d-\d\d")

Genres = Annotated[str, typer.Option(help="all, or names and ids: Drama,35", metavar="all|NAME|ID,...")]
By = Annotated[Way, typer.Option(help="genre, or date: each year as a whole, each movie once.")]
Years = Annotated[
    str | None,
    typer.Option(
        help="Years of first release.",
        metavar="FIRST..LAST",
        show_default=f"{DEFAULT_SINCE} up to this year",
    ),
]
MaxAge = Annotated[
    str | None,
    typer.Option(
        help="Fetch again what is older: 12h, 30d.", metavar="LENGTH", show_default="REELHAUL_RETENTION"
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Enqueue and return; the workers continue.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def chosen_years(text: str | None) -> list[int]:
    """The years of --years; by default those since DEFAULT_SINCE, this year included."""
    return parse_years(text) if text is not None else list(range(DEFAULT_SINCE, fleet_now().year + 1))


def parse_since(text: str) -> datetime | timedelta:
    """What --since says: the beginning of a day (UTC), or a length of time to look back."""
    try:
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return parse_duration(text, "--since")
    except ValueError:
        raise UsageError(f"--since {text!r}: the calendar has no such day") from None
    except UsageError as error:
        raise UsageError(f"{error}, or a day: 2026-01-01") from None


def parse_max_age(text: str | None) -> timedelta:
    """How old data may be: --max-age, by default and at most REELHAUL_RETENTION."""
    if text is not None:
        return min(parse_duration(text, "--max-age"), settings().reelhaul_retention)
    return settings().reelhaul_retention


def command_group(text: str) -> typer.Typer:
    """A command with subcommands and a callback of its own; `text` is its help."""
    return typer.Typer(add_completion=False, invoke_without_command=True, help=text)


@contextmanager
def png_extra() -> Iterator[None]:
    """For importing a PNG chart: UsageError names the extra that is missing."""
    try:
        yield
    except ImportError:
        raise UsageError("--png needs matplotlib: pip install 'reelhaul[pictures]'") from None
