"""The commands of `reelhaul`; each is imported when it is called."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from worker.errors import UsageError

#: Each command's module and function, in the order of the help.
COMMANDS = {
    "backfill": "producer.cli.backfill:backfill",
    "status": "producer.cli.status:status",
    "fresh": "producer.cli.retention:fresh",
    "verify": "producer.cli.verify:verify",
    "refresh": "producer.cli.refresh:refresh",
    "details": "producer.cli.details:details",
    "movie": "producer.cli.movie:movie",
    "popular": "producer.cli.popular:popular",
    "genres": "producer.cli.genres:genres",
    "schedule": "producer.cli.schedule:schedule",
    "expire": "producer.cli.retention:expire",
    "import": "producer.cli.import_file:import_file",
    "export": "producer.cli.export:export",
    "limit": "producer.cli.limit:limit",
    "ids": "producer.cli.ids:ids",
    "failures": "producer.cli.failures:failures",
    "doctor": "producer.cli.doctor:doctor",
    "health": "producer.cli.health:health",
    "standalone": "sandbox.standalone:standalone",
    "demo": "sandbox.demo:demo",
    "emulator": "sandbox.emulator.cli:emulator",
}
#: The extra that a package's commands need.
EXTRAS = {"sandbox": "sandbox"}


class _Commands(TyperGroup):
    """Loads commands by name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 -- typer's signature
        if cmd_name not in COMMANDS:
            return None
        found = _load(COMMANDS[cmd_name])
        if isinstance(found, typer.Typer):  # with subcommands
            group = typer.main.get_command(found)
            group.name = cmd_name
            return group
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(cmd_name)(found)
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
