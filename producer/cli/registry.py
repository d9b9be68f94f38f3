"""The commands of `reelhaul`; each is imported when it is called, none for the help that lists them."""

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from worker.errors import UsageError


class Place(NamedTuple):
    """Where a command is, and the first line of its help, which the help of `reelhaul` shows without it."""

    #: Its module and function, `module:function`.
    name: str
    summary: str


#: In the order of the help.
COMMANDS = {
    "backfill": Place(
        "producer.cli.backfill:backfill",
        "Fetch every movie of the genres and years that is not stored yet.",
    ),
    "plan": Place(
        "producer.cli.plan:plan",
        "Show what a backfill takes: requests, time, memory; and which plan is cheaper.",
    ),
    "status": Place(
        "producer.cli.status:status",
        "Show how far everything that was asked for is, and what holds it back.",
    ),
    "backfills": Place(
        "producer.cli.backfills:backfills",
        "List everything that was asked for, with its ID: backfills, refreshes, details and all others.",
    ),
    "cancel": Place(
        "producer.cli.backfills:cancel",
        "Stop fetching for one request; what is stored stays, `reelhaul resume` continues.",
    ),
    "resume": Place(
        "producer.cli.backfills:resume",
        "Continue a request that was cancelled, and follow it.",
    ),
    "forget": Place(
        "producer.cli.backfills:forget",
        "Remove one request from the list, and nothing that was fetched for it; its messages are dropped.",
    ),
    "fresh": Place(
        "producer.cli.retention:fresh",
        "Does the data need an update? Exit 0 when no page is missing or older than --max-age, else 1.",
    ),
    "verify": Place(
        "producer.cli.verify:verify",
        "Prove that nothing is missing: exit 0 when every page is stored "
        "and every cell holds all its movies.",
    ),
    "refresh": Place(
        "producer.cli.refresh:refresh",
        "Fetch again what is older than --max-age, or what changed, ahead of everything else in the queues.",
    ),
    "details": Place(
        "producer.cli.details:details",
        "Fetch the details of the stored movies, where they are missing or older than --max-age.",
    ),
    "movie": Place(
        "producer.cli.movie:movie",
        "Show one movie by its ID, from the stored details or else from TMDB; or search TMDB for a TITLE.",
    ),
    "popular": Place(
        "producer.cli.popular:popular",
        "Fetch the most popular movies; their pages keep the order.",
    ),
    "genres": Place(
        "producer.cli.genres:genres",
        "List the genres, how many stored movies each has, and which occur together.",
    ),
    "schedule": Place(
        "producer.cli.schedule:schedule",
        "List what Reelhaul does by itself, or run it now.",
    ),
    "expire": Place(
        "producer.cli.retention:expire",
        "Delete what was not fetched again within REELHAUL_RETENTION; deleted pages count as missing.",
    ),
    "import": Place(
        "producer.cli.import_file:import_file",
        "Merge movies from a file: of two versions of a movie the one fetched later stays.",
    ),
    "export": Place(
        "producer.cli.export:export",
        "Write the stored movies to a file: a table, or one JSON object a line, as TMDB sent them.",
    ),
    "limit": Place(
        "producer.cli.limit:limit",
        "Show the fleet's limit, or change it for all workers at once.",
    ),
    "ids": Place(
        "producer.cli.ids:ids",
        "TMDB's daily id export: show, load.",
    ),
    "failures": Place(
        "producer.cli.failures:failures",
        "Pages in quarantine: list, show, retry, purge.",
    ),
    "doctor": Place(
        "producer.cli.doctor:doctor",
        "Check Redis, MongoDB, run folder, key, clock and versions; exit 2 when something needs fixing.",
    ),
    "health": Place(
        "producer.cli.health:health",
        "Exit 0 when every ROLE (worker or beat) on this host is alive and not stuck, "
        "else 1 with the reason.",
    ),
    "standalone": Place(
        "sandbox.standalone:standalone",
        "Run a whole fleet here until Ctrl-C; Redis and MongoDB too, unless they are running already.",
    ),
    "demo": Place(
        "sandbox.demo:demo",
        "Watch a backfill from an empty machine: no key, no Docker, under a minute.",
    ),
    "emulator": Place(
        "sandbox.emulator.cli:emulator",
        "Serve an emulated TMDB and print its base address; ends on SIGTERM or Ctrl-C.",
    ),
}
#: The extra that a package's commands need.
EXTRAS = {"sandbox": "sandbox"}


class _Commands(TyperGroup):
    """Loads commands by name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 -- typer's signature
        """The command's name and summary alone."""
        place = COMMANDS.get(cmd_name)
        return TyperCommand(cmd_name, help=place.summary) if place else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, in full."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _command(str(name)) if command else None, rest


def _command(name: str) -> Any:
    found = _load(COMMANDS[name].name)
    if isinstance(found, typer.Typer):  # with subcommands
        group = typer.main.get_command(found)
        group.name = name
        return group
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(found)
    return typer.main.get_command(single)


def _load(place: str) -> Any:
    """The command at `module:function`; without its extra, one that names the extra."""
    module, _, function = place.partition(":")
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        missing, extra = str(error.name), EXTRAS.get(module.partition(".")[0])
        if extra is None or missing.partition(".")[0] in EXTRAS:
            raise

    def unavailable() -> None:
        raise UsageError(f"the module {missing} is missing: pip install 'reelhaul[{extra}]'")

    unavailable.__doc__ = f"Not here: pip install 'reelhaul[{extra}]'"
    return unavailable


app = typer.Typer(cls=_Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _reelhaul() -> None:
    """Haul The Movie Database into MongoDB, as fast as the API allows and not one request faster."""
    from worker.monitoring import logs
    from worker.settings import redacted

    # Unconfigured, structlog writes to stdout. Commands print what a person needs to know themselves.
    logs.configure("ERROR", redacted)
