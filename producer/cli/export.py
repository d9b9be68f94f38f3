"""`reelhaul export`: write the stored movies to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from producer.cli.options import Quiet
from producer.cli.render import advancing, console
from producer.export import export_movies
from worker.clients import storage


def export(
    file: Annotated[Path, typer.Argument(help="FILE.jsonl or FILE.jsonl.gz", metavar="FILE.jsonl")],
    quiet: Quiet = False,
) -> None:
    """Write the stored movies, one JSON object a line, as TMDB sent them."""
    with advancing("movies", storage().movies.count(), quiet=quiet) as on_movie:
        written = export_movies(storage(), file, on_movie)
    console(quiet=quiet).print(f"{written:,} movies written to {file}")
