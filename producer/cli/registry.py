"""The commands of `reelhaul`; each is imported when it is called, none for the help that lists them."""

import sys
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from worker.errors import UsageError


class Place(NamedTuple):
    """Where a command is, and the first line of its help, which the help of `reelhaul` shows without it."""

    #: Its module and function, `module:function`.
    name: str
    summary: str
    #: The heading that it stands under in the help.
    group: str


FETCH, LOOK, STEER, DATA, SET_UP, RUN = "Fetch", "Look", "Steer", "Data", "Set up", "Run"
#: In the order of the help: groups by their first command.
COMMANDS = {
    "backfill": Place(
        "producer.cli.backfill:backfill",
        "Fetch every movie of the genres and years that is not stored yet.",
        FETCH,
    ),
    "plan": Place(
        "producer.cli.plan:plan",
        "Show what a backfill takes: requests, time, memory; and which plan is cheaper.",
        FETCH,
    ),
    "status": Place(
        "producer.cli.status:status",
        "Show how far everything that was asked for is, and what holds it back.",
        LOOK,
    ),
    "backfills": Place(
        "producer.cli.backfills:backfills",
        "List everything that was asked for, with its ID: backfills, refreshes, details and all others.",
        LOOK,
    ),
    "cancel": Place(
        "producer.cli.backfills:cancel",
        "Stop fetching for one request; what is stored stays, `reelhaul resume` continues.",
        STEER,
    ),
    "resume": Place(
        "producer.cli.backfills:resume",
        "Continue a request that was cancelled, and follow it.",
        STEER,
    ),
    "forget": Place(
        "producer.cli.backfills:forget",
        "Remove one request from the list, and nothing that was fetched for it; its messages are dropped.",
        STEER,
    ),
    "fresh": Place(
        "producer.cli.retention:fresh",
        "Does the data need an update? Exit 0 when no page is missing or older than --max-age, else 1.",
        LOOK,
    ),
    "verify": Place(
        "producer.cli.verify:verify",
        "Prove that nothing is missing: exit 0 when every page is stored "
        "and every cell holds all its movies.",
        LOOK,
    ),
    "refresh": Place(
        "producer.cli.refresh:refresh",
        "Fetch again what is older than --max-age, or what changed, ahead of everything else in the queues.",
        FETCH,
    ),
    "details": Place(
        "producer.cli.details:details",
        "Fetch the details of the stored movies, where they are missing or older than --max-age.",
        FETCH,
    ),
    "movie": Place(
        "producer.cli.movie:movie",
        "Show one movie by its ID, from the stored details or else from TMDB; or search TMDB for a TITLE.",
        LOOK,
    ),
    "popular": Place(
        "producer.cli.popular:popular",
        "Fetch the most popular movies; their pages keep the order.",
        FETCH,
    ),
    "genres": Place(
        "producer.cli.genres:genres",
        "List the genres, how many stored movies each has, and which occur together.",
        LOOK,
    ),
    "schedule": Place(
        "producer.cli.schedule:schedule",
        "List what Reelhaul does by itself, or run it now.",
        STEER,
    ),
    "expire": Place(
        "producer.cli.retention:expire",
        "Delete what was not fetched again within REELHAUL_RETENTION; deleted pages count as missing.",
        DATA,
    ),
    "import": Place(
        "producer.cli.import_file:import_file",
        "Merge movies from a file: of two versions of a movie the one fetched later stays.",
        DATA,
    ),
    "export": Place(
        "producer.cli.export:export",
        "Write the stored movies to a file: a table, or one JSON object a line, as TMDB sent them.",
        DATA,
    ),
    "limit": Place(
        "producer.cli.limit:limit",
        "Show the fleet's limit, or change it for all workers at once.",
        STEER,
    ),
    "ids": Place(
        "producer.cli.ids:ids",
        "TMDB's daily id export: show, load.",
        DATA,
    ),
    "failures": Place(
        "producer.cli.failures:failures",
        "Pages in quarantine: list, show, retry, purge.",
        STEER,
    ),
    "doctor": Place(
        "producer.cli.doctor:doctor",
        "Check Redis, MongoDB, run folder, TMDB, clock and versions; exit 2 when something needs fixing.",
        SET_UP,
    ),
    "health": Place(
        "producer.cli.health:health",
        "Exit 0 when every ROLE (worker or beat) on this host is alive and not stuck, "
        "else 1 with the reason.",
        SET_UP,
    ),
    "standalone": Place(
        "sandbox.standalone:standalone",
        "Run a whole fleet here until Ctrl-C; Redis and MongoDB too, unless they are running already.",
        RUN,
    ),
    "demo": Place(
        "sandbox.demo:demo",
        "Watch a backfill from an empty machine: no key, no Docker, under a minute.",
        RUN,
    ),
    "emulator": Place(
        "sandbox.emulator.cli:emulator",
        "Serve an emulated TMDB and print its base address; ends on SIGTERM or Ctrl-C.",
        RUN,
    ),
}
#: The extra that a package's commands need.
EXTRAS = {"sandbox": "sandbox"}


class _Commands(TyperGroup):
    """Knows commands by name and summary alone, and loads the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=place.summary, rich_help_panel=place.group)
            for name, place in COMMANDS.items()
        }

    def get_params(self, ctx: Any) -> Any:
        return _without_flag_types(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, in full."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _command(str(name), ctx) if command else None, rest


def _command(name: str, context: typer.Context) -> Any:
    found = _load(COMMANDS[name].name)
    if isinstance(found, typer.Typer):  # with subcommands
        command = typer.main.get_command(found)
        command.name = name
    else:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(name)(found)
        command = typer.main.get_command(single)
    for one in (command, *getattr(command, "commands", {}).values()):
        _without_flag_types(one.get_params(context))
    return command


def _without_flag_types(parameters: list[Any]) -> list[Any]:
    """The parameters; their help shows no `<bool>` beside flags."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


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


app = typer.Typer(cls=_Commands, pretty_exceptions_enable=False, invoke_without_command=True)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"reelhaul {version('reelhaul')}")
        raise typer.Exit


@app.callback()
def _reelhaul(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Haul The Movie Database into MongoDB, as fast as the API allows and not one request faster."""
    if context.invoked_subcommand is None:
        context.get_help()  # prints it
        raise typer.Exit(2)
    from worker.monitoring import logs
    from worker.settings import redacted

    # Unconfigured, structlog writes to stdout. Commands print what a person needs to know themselves.
    logs.configure("ERROR", redacted)


def run() -> NoReturn:
    """Run `reelhaul` with this process' arguments and exit; UsageError for unknown or unusable ones."""
    try:
        sys.exit(app(prog_name="reelhaul", standalone_mode=False))
    except TyperException as error:
        raise UsageError(_in_one_line(error)) from None
    except typer.Abort:
        sys.stderr.write("reelhaul: aborted\n")
        sys.exit(1)


def _in_one_line(error: TyperException) -> str:
    """What is wrong, what was perhaps meant, and where to look it up."""
    text = " ".join(error.format_message().split()).rstrip(".")
    text = text[:1].lower() + text[1:].replace("Input should be", "must be").replace("option: ", "option ")
    text = text.replace(". Did you mean", ": did you mean")
    if meant := getattr(error, "possibilities", None):
        text = f"{text.partition(' (')[0]}: did you mean {' or '.join(sorted(meant))}?"
    context = getattr(error, "ctx", None)
    return (
        f"{text}{' See' if text.endswith('?') else '; see'} `{context.command_path} --help`"
        if context
        else text
    )
