"""The collection `ids`: TMDB's daily list of every movie's id, from which missing and gone movies are found.

The list's 1.2 million lines are stored in blocks of 1,000; as single documents they would take minutes. Each
load has a number, with which the `_id` of its blocks begins, and the document `current` names the load that
readers use. It is changed last, so that they see one whole list or the other, even when a load fails.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count, groupby
from typing import Any

from pymongo import ReturnDocument

from worker.errors import MongoUnavailable, UsageError
from worker.keys import LAST_MOVIE
from worker.storage.mongo import ENCODING_ERRORS, Document, Mongo, batches, translate_errors

#: Lines in one document: about 120 KB.
BLOCK = 1_000
#: Bytes of a line. TMDB's are below 1,000; a block of lines of this length still fits into a document.
LONGEST_LINE = 8_192


@dataclass(frozen=True)
class Loaded:
    """The list in use: its load's number, how many movies, from where, when."""

    load: int
    movies: int
    source: str
    loaded_at: datetime


class IdExport:
    """The list of ids. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._ids = mongo.database["ids"]

    def load(self, lines: Iterable[bytes], source: str, at: datetime) -> int:
        """Replace the list by these lines; returns how many movies they are.

        Raises UsageError, and keeps the list in use, if a line is not a movie with an id, if there is no
        line, and if a load that began later has finished.
        """
        load = self._begin()
        try:
            movies = self._insert(load, lines, source)
            self._make_current(Loaded(load, movies, source, at))
        except UsageError:
            self._remove(load, load)
            raise
        # Higher numbers belong to loads that are still running.
        self._remove(0, load - 1)
        return movies

    def current(self) -> Loaded | None:
        """The list in use; None before the first load."""
        with translate_errors():
            found = self._ids.find_one({"_id": "current", "load": {"$exists": True}})
        if found is None:
            return None
        return Loaded(found["load"], found["movies"], found["source"], found["loaded_at"])

    def ids(self) -> array[int]:
        """The ids of the list in use, ascending, each once, 8 bytes each; empty before the first load."""
        return self._read()[0]

    def flagged(self, *flags: str) -> list[array[int]]:
        """For each flag (`adult`, `video`), as `ids`, the ids of the lines in which it is true."""
        return self._read(*flags)[1:]

    def _begin(self) -> int:
        """A number above that of every earlier load, independent of clocks."""
        with translate_errors():
            counted = self._ids.find_one_and_update(
                {"_id": "current"},
                {"$inc": {"begun": 1}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        if counted is None:
            raise MongoUnavailable("MongoDB: no answer to a new load of ids")
        return int(counted["begun"])

    def _insert(self, load: int, lines: Iterable[bytes], source: str) -> int:
        movies = 0
        for number, block in enumerate(batches(_parsed(lines, source), BLOCK)):
            document = {"_id": _block_id(load, number), "load": load, "movies": block}
            with translate_errors():
                try:
                    self._ids.insert_one(document)
                except ENCODING_ERRORS:
                    # A lone surrogate in a title or a number beyond 64 bits must not cost the list its ids.
                    document["movies"] = [_storable(movie) for movie in block]
                    self._ids.insert_one(document)
            movies += len(block)
        if not movies:
            raise UsageError(
                f"{source}: expected a JSON object with an id on each line, got no line; "
                "with an empty list every movie would count as gone"
            )
        return movies

    def _make_current(self, loaded: Loaded) -> None:
        """Put the load in use; UsageError if one that began later has finished."""
        earlier = [{"load": {"$exists": False}}, {"load": {"$lt": loaded.load}}]
        with translate_errors():
            changed = self._ids.update_one({"_id": "current", "$or": earlier}, {"$set": asdict(loaded)})
        if not changed.matched_count:
            raise UsageError(f"{loaded.source}: a load that began later has finished; its list is in use")

    def _remove(self, first: int, last: int) -> None:
        """Remove the blocks of the loads `first` to `last`, both included."""
        with self._mongo.long_query():
            self._ids.delete_many({"_id": {"$gte": f"{first:010}:", "$lt": f"{last + 1:010}:"}})

    def _read(self, *flags: str) -> list[array[int]]:
        """All ids, then those of each flag."""
        while loaded := self.current():
            movies, found = 0, [array("q") for _ in (None, *flags)]
            for block in self._blocks(loaded.load, *flags):
                movies += len(block)
                found[0].extend(movie["id"] for movie in block)
                for flag, flagged in zip(flags, found[1:], strict=True):
                    flagged.extend(movie["id"] for movie in block if movie.get(flag) is True)
            if movies == loaded.movies:
                return [_ascending(ids) for ids in found]
            if self.current() == loaded:
                raise UsageError(
                    f"{loaded.source}: only {movies:,} of {loaded.movies:,} lines are left in MongoDB; "
                    "load it again with `reelhaul ids load`"
                )
            # Another load has replaced it, and removed its blocks, meanwhile.
        return [array("q") for _ in (None, *flags)]

    def _blocks(self, load: int, *flags: str) -> Iterator[list[dict[str, Any]]]:
        """The blocks of a load, one by one: SecantusDB would hold the whole result of a query in memory."""
        fields = {f"movies.{name}": 1 for name in ("id", *flags)}
        for number in count():
            with translate_errors():
                block = self._ids.find_one({"_id": _block_id(load, number)}, fields)
            if block is None:
                return
            yield block["movies"]


def parse_line(line: bytes) -> Document:
    """The movie in one line; ValueError, with a text for people, if it is not a JSON object with an id."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"more than {LONGEST_LINE:,} bytes")
    try:
        movie = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError(f"not JSON: {line.strip()!r:.60}") from None
    if not isinstance(movie, dict):
        raise ValueError(f"{type(movie).__name__} instead of a JSON object")  # noqa: TRY004 -- of a line, no argument
    id_ = movie.get("id")
    if type(id_) is not int or not 0 < id_ <= LAST_MOVIE:
        raise ValueError(f"id {id_!r:.40}, where a whole number above 0 was expected")
    return movie


def _parsed(lines: Iterable[bytes], source: str) -> Iterator[Document]:
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                yield parse_line(line)
        except ValueError as error:
            raise UsageError(
                f"{source}, line {number:,}: {error}; expected TMDB's daily list of movie ids, "
                "a JSON object with an id on each line; nothing was changed"
            ) from None


def _storable(movie: Document) -> Document:
    """The fields of a line that are ever read, which MongoDB can hold."""
    return {"id": movie["id"], "adult": movie.get("adult") is True, "video": movie.get("video") is True}


def _block_id(load: int, number: int) -> str:
    """Sorts as the numbers do, and before `current`."""
    return f"{load:010}:{number:010}"


def _ascending(found: Sequence[int]) -> array[int]:
    """Sort, and drop duplicates. A million ids take 40 MB meanwhile."""
    return array("q", (id_ for id_, _ in groupby(sorted(found))))
