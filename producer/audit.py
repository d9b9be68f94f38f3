"""Compare the stored movies with TMDB's daily list of ids: which are missing, which are gone?

No page of discover holds movies without a genre or a date: only the list shows them. That a movie is not on
the list is a reason to request it, not a proof that TMDB deleted it.
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

#: The day in the name of TMDB's file.
_DATED = re.compile(r"_(\d\d)_(\d\d)_(\d{4})\.")


@dataclass(frozen=True)
class Audit:
    """The loaded list compared with what is stored; ids ascending."""

    loaded: Loaded
    stored: int
    #: On the list, but not stored.
    missing: array[int]
    #: How many of the missing have these flags: discover leaves such movies out by default.
    missing_adult: int
    missing_video: int
    #: Stored, but not on the list though first seen before it was made.
    gone: array[int]
    #: How many are stored and too new to be on the list.
    newer: int


def audit(storage: Storage, on_movie: Callable[[], None] = lambda: None) -> Audit:
    """Compare the list with the stored movies, 8 bytes of memory each; UsageError when no list is loaded."""
    export = storage.id_export
    loaded = require_loaded(export)
    stored = storage.movies.ids(on_movie)
    missing, unlisted = differ(export.ids(), stored)
    list_made_at = made_at(loaded)
    gone, newer = array("q"), 0
    for id_, first_seen in storage.movies.first_seen(unlisted):
        if first_seen < list_made_at:
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


def missing_ids(storage: Storage) -> Iterator[int]:
    """The ids on the list that are not stored, ascending; UsageError when no list is loaded.

    All are found before the first is yielded, so that no cursor stays open while the caller works.
    """
    require_loaded(storage.id_export)
    yield from differ(storage.id_export.ids(), storage.movies.ids())[0]


def require_loaded(export: IdExport) -> Loaded:
    """The loaded list; UsageError when there is none."""
    loaded = export.current()
    if loaded is None:
        raise UsageError(
            "no list of ids is loaded: `reelhaul ids load latest` loads TMDB's newest, "
            "`reelhaul ids load FILE` a movie_ids_MM_DD_YYYY.json.gz that you have"
        )
    return loaded


def made_at(loaded: Loaded) -> datetime:
    """The day in the file's name, or else when it was loaded."""
    if found := _DATED.search(loaded.source):
        month, day, year = map(int, found.groups())
        with suppress(ValueError):
            return datetime(year, month, day, tzinfo=UTC)
    return loaded.loaded_at


def as_dict(loaded: Loaded) -> dict[str, Any]:
    """For JSON."""
    return {"source": loaded.source, "movies": loaded.movies, "loaded_at": loaded.loaded_at.isoformat()}


def describe(loaded: Loaded) -> str:
    """For a person."""
    return f"{loaded.movies:,} movies in {loaded.source}, loaded {loaded.loaded_at:%Y-%m-%d %H:%M} UTC"


def differ(listed: array[int], stored: Iterable[int]) -> tuple[array[int], array[int]]:
    """Compare two ascending sequences: what is only in the first, and only in the second."""
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
