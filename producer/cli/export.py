"""`reelhaul export`: write the stored movies to a file."""

from pathlib import Path
from typing import Annotated

import typer

from producer.cli.options import Quiet
from producer.cli.render import console, counted, progress_bar
from producer.export import export_movies
from worker.clients import storage


def export(
    file: Annotated[Path, typer.Argument(help="FILE.jsonl or FILE.jsonl.gz", metavar="FILE.jsonl")],
    quiet: Quiet = False,
) -> None:
    """Write the stored movies to a file, one JSON object a line, as TMDB sent them."""
    with progress_bar("movies", storage().movies.count(), quiet=quiet) as advance:
        written = export_movies(storage(), file, advance)
    console(quiet=quiet).print(f"{counted(written, 'movie')} written to {file}")
