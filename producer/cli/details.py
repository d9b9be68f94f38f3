"""`reelhaul details`: fetch the details of stored movies."""

from typing import Annotated

import typer

from producer.audit import require_loaded
from producer.cli.follow import run_request
from producer.cli.options import AsJson, Detach, MaxAge, Quiet, parse_max_age
from producer.requests.movies import Details
from worker.clients import fleet_now, storage
from worker.errors import UsageError
from worker.settings import settings
from worker.storage.movies import PARTS


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
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the details of the stored movies, where they are missing or older than --max-age."""
    parts, age = _parse_parts(append), parse_max_age(max_age)
    if missing and max_age:
        raise UsageError("--missing accepts details of any age: leave --max-age out")
    if from_ids and (missing or max_age):
        raise UsageError("--from-ids fetches movies that are not stored: leave --missing and --max-age out")
    settings().require_key()
    if from_ids:
        require_loaded(storage().id_export)
    any_age = missing or from_ids
    wanted = Details(parts, None if any_age else age, from_ids, fleet_now())
    run_request(wanted, detach=detach, quiet=quiet, as_json=as_json)


def _parse_parts(append: str | None) -> tuple[str, ...]:
    parts = sorted({part.strip() for part in append.split(",")}) if append is not None else []
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"--append: unknown part {part!r}; expected some of {', '.join(PARTS)}")
    return tuple(parts)
