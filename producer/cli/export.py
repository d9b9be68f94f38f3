"""`reelhaul export`: write the stored movies to a file, or as a training set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from producer.cli.genre_names import known_genres
from producer.cli.options import AsJson, Quiet
from producer.cli.render import console, counted, print_json, progress_bar
from producer.export import parse_format, write_lines
from producer.plan import parse_genres, parse_years
from worker.clients import about_now, storage
from worker.durations import parse_duration
from worker.errors import MongoUnavailable, UsageError
from worker.settings import settings
from worker.storage.selection import ALL, Selection


class _Wanted(NamedTuple):
    """What to write."""

    selection: Selection
    details: bool
    #: The number of most popular movies, in order of rank; None: all, by id.
    popular: int | None
    columns: list[str] | None
    raw: bool


def export(  # noqa: PLR0913, PLR0917 -- a command's options
    file: Annotated[
        Path | None,
        typer.Argument(help="FILE.parquet, .arrow, .csv[.gz|.zst] or .jsonl[.gz|.zst]", metavar="FILE"),
    ] = None,
    training_set: Annotated[
        Path | None,
        typer.Option(
            help="Write a folder: overviews and genres, to train and test a classifier.", metavar="DIR"
        ),
    ] = None,
    genres: Annotated[
        str | None, typer.Option(help="Names and ids: Drama,35", metavar="NAME|ID,...", show_default="all")
    ] = None,
    years: Annotated[
        str | None, typer.Option(help="Years of first release.", metavar="FIRST..LAST", show_default="all")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Some columns, in this order.", metavar="NAME,...", show_default="all")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only what was fetched since then: 7d, 2026-05-01.", metavar="LENGTH|DATE"),
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Whole documents, not list items.")] = False,
    popular: Annotated[
        int | None, typer.Option(help="The N most popular movies, in order of rank.", metavar="N", min=1)
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Add a column with the fields that have none, as JSON.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the stored movies to a file: a table, or one JSON object a line, as TMDB sent them."""
    if training_set and not file:
        if popular is not None or columns is not None or details or raw:
            raise UsageError(
                "--training-set has columns of its own: only --genres, --years and --since apply"
            )
        _write_training_set(
            _selection(genres, years, since), training_set, quiet=quiet or as_json, as_json=as_json
        )
        return
    if training_set or not file:
        raise UsageError("export: expected a FILE or --training-set DIR, one of them")
    form = parse_format(file)
    if form.is_raw and (columns is not None or raw):
        raise UsageError(f"{file}: JSON Lines hold whole documents, without --columns and --raw")
    if popular is not None and (genres, years, since) != (None, None, None):
        raise UsageError("--popular is a list of its own, without --genres, --years and --since")
    wanted = _Wanted(
        _selection(genres, years, since),
        details,
        popular,
        None if columns is None else [name.strip() for name in columns.split(",")],
        raw,
    )
    write = _write_lines if form.is_raw else _write_table
    with _data_extra(f"{form.name}{form.compression} files need" if form.needs_pyarrow else ""):
        written = write(wanted, file, quiet=quiet or as_json)
    if as_json:
        print_json({"file": str(file), "movies": written})
        return
    console(quiet=quiet).print(f"{counted(written, 'movie')} written to {file}", soft_wrap=True)


def _selection(genres: str | None, years: str | None, since: str | None) -> Selection:
    chosen_years = None if years is None else tuple(parse_years(years))
    moment = None if since is None else _parse_since(since)
    if genres is None or genres.strip().lower() == "all":
        return Selection(None, chosen_years, moment)
    if not (known := storage().genres.names() or known_genres()):
        raise UsageError("no genres are known yet: `reelhaul genres` asks TMDB for them, once a key is set")
    return Selection(tuple(parse_genres(genres, known)), chosen_years, moment)


def _parse_since(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        if text[:4].isdecimal() and text[4:5] == "-":
            raise UsageError(
                f"--since {text!r}: expected a date such as 2026-05-01, or a length such as 7d"
            ) from None
        return about_now() - parse_duration(text, "--since")


def _write_lines(wanted: _Wanted, file: Path, *, quiet: bool) -> int:
    movies = storage().movies
    with _progress(wanted, quiet=quiet) as advance:
        if wanted.popular is None:
            if wanted.selection.is_filter and not wanted.details:
                movies.create_read_index()
            documents = movies.each(wanted.selection, details=wanted.details)
        else:
            ids = storage().pages.popular_ids()[: wanted.popular]
            documents = movies.in_order(ids, details=wanted.details)
        return write_lines(documents, file, advance)


def _write_table(wanted: _Wanted, file: Path, *, quiet: bool) -> int:
    import reelhaul
    from producer.tables import write_table

    _name_genres()
    url, (selection, details, top, columns, raw) = settings().mongo_url.get_secret_value(), wanted
    try:
        layout = reelhaul.Layout(columns, details=details, raw=raw, ranked=top is not None)
        with _progress(wanted, quiet=quiet) as advance:
            if top is None:
                genres, years, since = selection.genre_ids, selection.years, selection.since
                batches = reelhaul.iter_movies(url, genres, years, columns, since, details=details, raw=raw)
            else:
                batches = reelhaul.iter_popular(url, top, columns, details=details, raw=raw)
            return write_table(batches, layout.schema, file, advance)
    except reelhaul.Unavailable as error:
        raise MongoUnavailable(str(error)) from None
    except reelhaul.Error as error:
        raise UsageError(str(error)) from None


def _write_training_set(chosen: Selection, target: Path, *, quiet: bool, as_json: bool) -> None:
    with _data_extra("--training-set needs"):
        import reelhaul
        from reelhaul.training import COLUMNS, NoMovies, write_training_set
    url, genres = settings().mongo_url.get_secret_value(), chosen.genre_ids
    _name_genres()
    try:
        with progress_bar("movies", storage().movies.count(), quiet=quiet) as advance:
            batches = reelhaul.iter_movies(url, genres, chosen.years, COLUMNS, chosen.since)
            counts = write_training_set(batches, storage().genres.names(), target, on_movie=advance)
    except NoMovies:
        which = "of --genres, --years and --since " if chosen.is_filter else ""
        raise UsageError(f"no movie {which}with an overview is stored: `reelhaul backfill --help`") from None
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None
    except reelhaul.Error as error:
        raise UsageError(str(error)) from None
    if as_json:
        left_out = {"without_overview": counts.without_overview, "duplicates": counts.duplicates}
        print_json({"folder": str(target), **counts.movies, **left_out})
        return
    sides = f"{counted(counts.movies['train'], 'movie')} to train, {counts.movies['test']:,} to test"
    rest = f"left out: {counts.without_overview:,} without overview, {counts.duplicates:,} duplicate"
    console(quiet=quiet).print(f"{sides} written to {target}; {rest}", soft_wrap=True)


def _name_genres() -> None:
    """Ask TMDB for the names of genres if none is stored, so that columns hold them."""
    if storage().movies.count() and not storage().genres.names():
        known_genres()


@contextmanager
def _progress(wanted: _Wanted, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar; of a filter's movies the number is not known."""
    total = wanted.popular
    if wanted.selection == ALL and total is None and not wanted.details:
        total = storage().movies.count()
    with progress_bar("movies", total, quiet=quiet) as advance:
        yield advance


@contextmanager
def _data_extra(what_needs: str) -> Iterator[None]:
    """For what needs pyarrow, if `what_needs` is given: UsageError names the extra that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not what_needs or str(error.name).partition(".")[0] != "pyarrow":
            raise
        raise UsageError(f"{what_needs} pyarrow: pip install 'reelhaul[data]'") from None
