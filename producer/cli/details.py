"""`reelhaul details`: fetch the details of stored movies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated, Any

import typer

from producer.audit import missing_ids
from producer.cli.follow import follow_requested
from producer.cli.options import Detach, MaxAge, Quiet
from producer.cli.render import advancing, console
from producer.schedule.entries import enqueue_requested
from worker.clients import close_api_client, fleet_now, limiter, storage, tmdb_client
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.queues import lengths
from worker.retry import ask
from worker.settings import settings
from worker.storage.movies import PARTS


def details(  # noqa: PLR0913, PLR0917 -- a command's options
    missing: Annotated[
        bool, typer.Option("--missing", help="Only movies that have no details at all, however old.")
    ] = False,
    append: Annotated[
        str | None, typer.Option(help="Parts to ask for as well: credits,keywords", metavar="PART,...")
    ] = None,
    from_ids: Annotated[
        bool, typer.Option("--from-ids", help="Movies of the loaded id export that are not stored.")
    ] = False,
    max_age: MaxAge = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the details of the stored movies, where they are missing or older than --max-age."""
    parts = _parts(append)
    age = parse_duration(max_age, "--max-age") if max_age else None
    if missing and age is not None:
        raise UsageError("--missing takes details of any age for done; leave --max-age out")
    if from_ids and (missing or age is not None):
        raise UsageError("--from-ids takes movies that are not stored; leave --missing and --max-age out")
    settings().require_key()
    now, retention = fleet_now(), settings().reelhaul_retention
    wanted: Iterable[int]
    if from_ids:
        wanted = missing_ids(storage(), storage().id_export)
    else:
        oldest = timedelta(days=36_500) if missing else retention if age is None else min(age, retention)
        wanted = storage().movies.without_details(now - oldest, parts)
    with advancing("movies looked at", storage().movies.count(), quiet=quiet) as on_movie:
        number = storage().movie_requests.add(_each(wanted, on_movie), now, details=True, append=parts)
    console(quiet=quiet).print(f"{number:,} movies to fetch")
    if number:
        if limiter().state().stopped:
            ask(tmdb_client().check_key)
            close_api_client()
        if detach:
            enqueue_requested(lengths())
        follow_requested(detach=detach, quiet=quiet)


def _parts(append: str | None) -> list[str]:
    parts = sorted({part.strip() for part in append.split(",")}) if append is not None else []
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"--append: unknown part {part!r}; expected some of {', '.join(PARTS)}")
    return parts


def _each(ids: Iterable[int], on_movie: Any) -> Iterator[int]:
    for id_ in ids:
        on_movie()
        yield id_
