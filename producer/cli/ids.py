"""`reelhaul ids`: load TMDB's daily id export into MongoDB, and show which is loaded."""

from functools import partial
from typing import Annotated

import typer
from rich.markup import escape

from producer.audit import as_dict, describe
from producer.cli.options import AsJson, Quiet, command_group
from producer.cli.render import console, counted, print_json, progress_bar
from producer.daily_ids import load_latest, load_list
from worker.clients import fleet_now, storage
from worker.settings import settings

#: In place of a file or an address: the newest list that TMDB has.
LATEST = "latest"

ids = command_group("TMDB's daily id export: show, load.")

#: Seconds to wait for the connection, and for each piece of the file.
TIMEOUT_S = (10.0, 30.0)
#: The file is compressed already.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}
_GZIP = b"\x1f\x8b"
#: Bytes read at a time.
_CHUNK = 1 << 18


@ids.callback()
def overview(context: typer.Context, as_json: AsJson = False) -> None:
    """Show which list is loaded, unless a subcommand follows; with --json, null for none."""
    if not context.invoked_subcommand:
        _print_loaded(as_json=as_json)


def _print_loaded(*, as_json: bool) -> None:
    loaded = storage().id_export.current()
    if as_json:
        print_json(as_dict(loaded) if loaded else None)
    elif loaded:
        console().print(escape(describe(loaded)), soft_wrap=True)
    else:
        console().print("no list of ids is loaded: `reelhaul ids load --help`")


@ids.command()
def load(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file (JSON Lines, gzip or not), a URL, or latest: TMDB's list of today, else yesterday.",
        ),
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Load TMDB's daily list of movie ids for `reelhaul verify --ids`, in place of the previous one."""
    quiet = quiet or as_json
    at, meter = fleet_now(), partial(progress_bar, "ids", quiet=quiet, in_bytes=True)
    if source == LATEST:
        movies, named = load_latest(storage(), settings().reelhaul_ids_url, at, meter)
    else:
        movies, named = load_list(storage(), source, at, meter)
    if as_json:
        _print_loaded(as_json=True)
    console(quiet=quiet).print(escape(f"{counted(movies, 'movie')} loaded from {named}"), soft_wrap=True)
