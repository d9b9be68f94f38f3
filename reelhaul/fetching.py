"""`fetch=True`: run `reelhaul backfill` in a process of its own for what is missing or too old."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from reelhaul.errors import FetchFailed, NothingStored
from reelhaul.source import Source
from worker.keys import ANY_GENRE
from worker.storage.selection import spans_of

#: -P: a folder `producer` in the current folder is not ours.
_REELHAUL = (sys.executable, "-P", "-c", "from producer.cli.main import main; main()")
#: Exit codes of a backfill that has ended; with 1, some pages are in quarantine.
_ENDED = (0, 1)


def fetch(
    url: str,
    genres: str | int | Iterable[str | int] | None,
    years: tuple[int, ...] | None,
    max_age: str | None,
) -> None:
    """Fetch what is missing or older than `max_age`, with the command's progress bar on standard output.

    Without genres and years, that is everything that a person requested. Raises FetchFailed, and
    NothingStored when nothing was.
    """
    if find_spec("celery") is None or find_spec("typer") is None:
        raise FetchFailed("fetch=True needs the fleet's packages: pip install 'reelhaul[fleet]'")
    for request in list(_requests(url, genres, years)):
        age = ("--max-age", max_age) if max_age else ()
        ended = subprocess.run(  # noqa: S603 -- our own command, no shell
            [*_REELHAUL, "backfill", *request, *age],
            env={**os.environ, "MONGO_URL": url},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if ended.returncode not in _ENDED:
            said = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
            raise FetchFailed(f"`reelhaul backfill`: {said[0].removeprefix('reelhaul: ')}")


def _requests(
    url: str, genres: str | int | Iterable[str | int] | None, years: tuple[int, ...] | None
) -> Iterator[tuple[str, ...]]:
    """The options of each backfill to run."""
    with Source(url) as source:
        if genres is None and years is None:
            if not source.requests:
                raise NothingStored("nothing was requested yet: pass genres and years")
            for request in source.requests:
                yield _options([genre["id"] for genre in request["genres"]], request["years"])
            return
        chosen: list[str | int]
        if genres is None:
            chosen = list(source.requested_genres)
        else:
            chosen = [genres] if isinstance(genres, str | int) else list(genres)
        wanted = years or {year for request in source.requests for year in request["years"]}
        if not wanted:
            raise NothingStored("nothing was requested yet: pass years too")
        if ANY_GENRE in chosen:
            yield _options([ANY_GENRE], wanted)
        if others := [genre for genre in chosen if genre != ANY_GENRE]:
            yield _options(others, wanted)
        elif not chosen:
            yield _options(["all"], wanted)


def _options(genres: list[str | int] | list[str] | list[int], years: Iterable[int]) -> tuple[str, ...]:
    spans = ",".join(f"{first}..{last}" for first, last in spans_of(years))
    if genres == [ANY_GENRE]:
        return ("--by", "date", "--years", spans)
    return ("--genres", ",".join(map(str, genres)), "--years", spans)
