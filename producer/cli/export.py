"""`reelhaul export`: write the stored movies to a file, or as a training set."""

from pathlib import Path
from typing import Annotated

import typer

from producer.cli.options import Quiet
from producer.cli.render import console, counted, progress_bar
from producer.export import export_movies
from worker.clients import storage
from worker.errors import UsageError


def export(
    file: Annotated[
        Path | None, typer.Argument(help="FILE.jsonl or FILE.jsonl.gz", metavar="FILE.jsonl")
    ] = None,
    training_set: Annotated[
        Path | None,
        typer.Option(
            help="Write a folder: overviews and genres to train and test a classifier.", metavar="DIR"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the stored movies to a file, one JSON object a line, as TMDB sent them."""
    if training_set and not file:
        write_training_set(training_set, quiet=quiet)
        return
    if training_set or not file:
        raise UsageError("export: expected a FILE or --training-set DIR, one of them")
    with progress_bar("movies", storage().movies.count(), quiet=quiet) as advance:
        written = export_movies(storage(), file, advance)
    console(quiet=quiet).print(f"{counted(written, 'movie')} written to {file}")


def write_training_set(target: Path, *, quiet: bool = False) -> None:
    """Write the folder; UsageError without pyarrow, or when it cannot be written."""
    try:
        from producer.training import export_training_set  # noqa: PLC0415 -- of an extra
    except ImportError:
        raise UsageError("--training-set needs pyarrow: pip install 'reelhaul[export]'") from None
    with progress_bar("movies", storage().movies.count(), quiet=quiet) as advance:
        counts = export_training_set(storage(), target, advance)
    sides = f"{counted(counts.movies['train'], 'movie')} to train, {counts.movies['test']:,} to test"
    left_out = f"left out: {counts.without_overview:,} without overview, {counts.duplicates:,} duplicate"
    console(quiet=quiet).print(f"{sides} written to {target}; {left_out}", soft_wrap=True)
