"""`reelhaul details`: fetch the details of stored movies."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated

import typer

from producer.audit import missing_ids
from producer.cli.follow import run_movie_requests
from producer.cli.options import Detach, MaxAge, Quiet, parse_max_age
from producer.cli.render import console, counted, progress_bar
from producer.cli.tmdb import open_limiter
from producer.schedule.entries import enqueue_requested
from worker.clients import fleet_now, storage
from worker.errors import UsageError
from worker.queues import lengths
from worker.settings import settings
from worker.storage.movies import PARTS

#: Older than any details.
FOREVER = timedelta(days=36_500)


def details(  # noqa: PLR0913, PLR0917 -- a command's options
    missing: Annotated[bool, typer.Option("--missing", help="Only missing details, not old ones.")] = False,
    append: Annotated[
        str | None, typer.Option(help="Parts to request as well: credits,keywords", metavar="PART,...")
    ] = None,
    from_ids: Annotated[
        bool, typer.Option("--from-ids", help="Movies of the loaded id export that are not stored.")
    ] = False,
    max_age: MaxAge = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the details of the stored movies, where they are missing or older than --max-age."""
    parts, age = _parse_parts(append), parse_max_age(max_age)
    if missing and max_age:
        raise UsageError("--missing accepts details of any age: leave --max-age out")
    if from_ids and (missing or max_age):
        raise UsageError("--from-ids fetches movies that are not stored: leave --missing and --max-age out")
    settings().require_key()
    now = fleet_now()
    ids: Iterable[int]
    if from_ids:
        ids = missing_ids(storage())
    else:
        ids = storage().movies.without_details(now - (FOREVER if missing else age), parts)
    with progress_bar("movies", storage().movies.count(), quiet=quiet) as advance:

        def each() -> Iterator[int]:
            for id_ in ids:
                advance()
                yield id_

        requested = storage().movie_requests.add(each(), now, details=True, append=parts)
    console(quiet=quiet).print(f"{counted(requested, 'movie')} to fetch")
    if requested:
        open_limiter()
        if detach:
            enqueue_requested(lengths())
        run_movie_requests(detach=detach, quiet=quiet)


def _parse_parts(append: str | None) -> list[str]:
    parts = sorted({part.strip() for part in append.split(",")}) if append is not None else []
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"--append: unknown part {part!r}; expected some of {', '.join(PARTS)}")
    return parts
