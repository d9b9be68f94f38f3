"""TMDB's daily list of ids against what is stored: which movies are missing, which are gone.

Only so the movies show that no page of discover ever holds: those without a genre or a date. That a movie
stands on no list is a reason to ask TMDB for it, and no proof that it was deleted.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker.errors import UsageError
from worker.storage.database import Storage
from worker.storage.id_export import IdExport, Loaded

#: The day is in the name of TMDB's file.
_DATED = re.compile(r"_(\d\d)_(\d\d)_(\d{4})\.")


@dataclass(frozen=True)
class Audit:
    """The loaded list against the store; ids ascending."""

    loaded: Loaded
    stored: int
    #: On the list and not stored.
    missing: array[int]
    #: Of the missing, how many are flagged so: discover does not show these unless asked to.
    missing_adult: int
    missing_video: int
    #: Stored and not on the list.
    gone: array[int]
    #: As `gone`, but first seen when the list was made already: it could not have them.
    newer: int


def audit(storage: Storage, export: IdExport, on_movie: Callable[[], None] = lambda: None) -> Audit:
    """Compare them; 8 bytes of memory for each id. UsageError when no list is loaded."""
    loaded = required(export)
    stored = storage.movies.ids(on_movie)
    missing, unlisted = differ(export.ids(), stored)
    since = made_at(loaded)
    gone, newer = array("q"), 0
    for id_, first_seen in storage.movies.first_seen(unlisted):
        if first_seen < since:
            gone.append(id_)
        else:
            newer += 1
    adult, video = (_common(ids, missing) for ids in export.flagged("adult", "video")) if missing else (0, 0)
    return Audit(
        loaded=loaded,
        stored=len(stored),
        missing=missing,
        missing_adult=adult,
        missing_video=video,
        gone=array("q", sorted(gone)),
        newer=newer,
    )


def missing_ids(storage: Storage, export: IdExport) -> Iterator[int]:
    """The ids on the list that are not stored, ascending; UsageError when no list is loaded.

    All are found before the first is yielded: no cursor is open while the caller takes its time.
    """
    required(export)
    yield from differ(export.ids(), storage.movies.ids())[0]


def required(export: IdExport) -> Loaded:
    """The list that is loaded; UsageError when none is."""
    loaded = export.current()
    if loaded is None:
        raise UsageError(
            "no list of ids is loaded: get a movie_ids_MM_DD_YYYY.json.gz of TMDB's daily id exports, "
            "then `reelhaul ids load FILE` (or its address)"
        )
    return loaded


def made_at(loaded: Loaded) -> datetime:
    """The day in the file's name; without one, when it was loaded."""
    if found := _DATED.search(loaded.source):
        month, day, year = map(int, found.groups())
        with suppress(ValueError):
            return datetime(year, month, day, tzinfo=UTC)
    return loaded.loaded_at


def plain(loaded: Loaded) -> dict[str, Any]:
    """For JSON."""
    return {"source": loaded.source, "movies": loaded.movies, "loaded_at": loaded.loaded_at.isoformat()}


def words(loaded: Loaded) -> str:
    """For a person."""
    return f"{loaded.movies:,} movies in {loaded.source}, loaded {loaded.loaded_at:%Y-%m-%d %H:%M} UTC"


def differ(listed: array[int], stored: Iterable[int]) -> tuple[array[int], array[int]]:
    """Of two ascending sequences: what is only in the first, what is only in the second."""
    missing, unlisted = array("q"), array("q")
    position = 0
    for id_ in stored:
        while position < len(listed) and listed[position] < id_:
            missing.append(listed[position])
            position += 1
        if position < len(listed) and listed[position] == id_:
            position += 1
        else:
            unlisted.append(id_)
    missing.extend(listed[position:])
    return missing, unlisted


def _common(some: array[int], others: array[int]) -> int:
    return len(some) - len(differ(some, others)[0])
