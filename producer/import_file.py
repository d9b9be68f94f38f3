"""Merges movies from a file into what is stored, under the rules that pages of TMDB follow."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from producer.json_values import NotJson, json_values
from producer.sources import Meter, opened, unmetered
from worker.errors import Unstorable, UsageError
from worker.keys import LAST_MOVIE
from worker.storage.database import Storage
from worker.storage.imports import check_storable, merge_imported
from worker.storage.mongo import Document
from worker.storage.movies import list_item

#: Bytes of a line that are read at a time.
_PIECE = 1 << 18
_EXPECTED = "expected list items or details as TMDB sends them, one a line or in one JSON array"


@dataclass(frozen=True)
class Imported:
    """How many movies were in the file, and what became of them."""

    movies: int
    new: int
    changed: int

    @property
    def unchanged(self) -> int:
        """Those already stored like this or newer, or repeated in the file."""
        return self.movies - self.new - self.changed


def import_movies(
    storage: Storage,
    file: Path,
    fetched_at: datetime,
    checking: Meter = unmetered,
    merging: Meter = unmetered,
) -> Imported:
    """Check the whole file, then merge its movies as of `fetched_at`; flat memory.

    Raises UsageError, with nothing merged, when the file cannot be read or something in it is no movie;
    MongoUnavailable, with some of them merged: importing the same file again merges the rest.
    """
    if file.exists() and not file.is_file():
        raise UsageError(f"{file}: expected a regular file: it is read twice")
    try:
        checked = sum(1 for _ in read_movies(file, checking, check=True))
    except UsageError as error:
        raise UsageError(f"{error}; nothing was imported") from None
    if not checked:
        raise UsageError(f"{file.name}: no movie in it; {_EXPECTED}")
    # What is no UTF-8 in a name cannot be stored.
    name = file.name.encode(errors="backslashreplace").decode()
    movies = new = changed = 0
    try:
        for batch in storage.mongo.batches(read_movies(file, merging)):
            saved = merge_imported(storage, batch, fetched_at, name)
            movies, new, changed = movies + len(batch), new + saved.inserted, changed + saved.changed
    except (UsageError, Unstorable) as error:  # the file changed, or only the server found it out
        named = error if isinstance(error, UsageError) else f"{file.name}: {error}"
        raise UsageError(f"{named}; {movies:,} of {checked:,} movies were imported") from None
    if movies != checked:
        raise UsageError(
            f"{file.name}: it changed while it was read; {movies:,} of {checked:,} movies were imported"
        )
    return Imported(movies, new, changed)


def read_movies(file: Path, meter: Meter = unmetered, *, check: bool = False) -> Iterator[Document]:
    """The list items in the file; UsageError names the line of the first that is none."""
    with opened(str(file), _PIECE, meter) as pieces:
        try:
            for place, value in json_values(pieces):
                try:
                    item = as_list_item(value)
                    if check:
                        check_storable(item)
                except (ValueError, Unstorable) as error:
                    raise NotJson(place, str(error)) from None
                yield item
        except NotJson as error:
            raise UsageError(f"{file.name}, {error}; {_EXPECTED}") from None


def as_list_item(value: Any) -> Document:
    """The list item: the value itself, or what details imply. ValueError, for people, when it is neither."""
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} instead of a JSON object")  # noqa: TRY004 -- of a file
    id_ = value.get("id")
    if type(id_) is not int or not 0 < id_ <= LAST_MOVIE:
        raise ValueError(f"id {id_!r:.40}, where a whole number above 0 was expected")
    if not isinstance(value.get("title"), str):
        raise ValueError("no title: not a movie")  # noqa: TRY004 -- shows and people have names
    ids, genres = value.get("genre_ids"), value.get("genres")
    if isinstance(ids, list) and all(type(id_) is int for id_ in ids):
        return value
    if ids is None and isinstance(genres, list) and all(map(_has_id, genres)):
        return list_item(value)
    raise ValueError("neither genre_ids, a list of numbers, nor genres, a list of objects with ids")


def _has_id(genre: Any) -> bool:
    return isinstance(genre, dict) and type(genre.get("id")) is int
