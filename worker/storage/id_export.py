"""TMDB's daily list of every movie's id, kept as it came: what is missing or gone is told by it.

A list of 1.2 million lines is kept in blocks of 1,000: as single documents they would take minutes. Each
load has a number, a block's `_id` begins with it, and the document `current` names the load that counts.
It is changed last, so readers see one whole list or the other, whatever becomes of a load.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count, groupby, islice
from typing import Any

from bson.errors import BSONError
from pymongo import ReturnDocument
from pymongo.errors import DocumentTooLarge

from worker.errors import MongoUnavailable, UsageError
from worker.storage.mongo import Document, Mongo, translate_errors

#: Lines in one document: about 120 KB.
BLOCK = 1_000
#: Bytes of a line. TMDB's are below 1,000; a thousand of this length still fit into a document.
LONGEST_LINE = 8_192
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Loaded:
    """The list that counts: its load's number, how many lines, from where, when."""

    load: int
    movies: int
    source: str
    loaded_at: datetime


class IdExport:
    """The collection `ids`; MongoUnavailable when MongoDB does not answer or cannot write."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._ids = mongo.database["ids"]

    def load(self, lines: Iterable[bytes], source: str, at: datetime) -> int:
        """Keep these lines in the place of all earlier ones; returns how many.

        Raises UsageError, and leaves what was there, for a line that is no movie with an id, for no lines at
        all, and when a load that began later is done already.
        """
        load = self._begin()
        try:
            movies = self._put(load, lines, source)
            self._make_current(Loaded(load, movies, source, at))
        except UsageError:
            self._remove(load, load)
            raise
        # Not those above: they belong to loads that go on at this moment.
        self._remove(0, load - 1)
        return movies

    def current(self) -> Loaded | None:
        """The list that counts; None when none was loaded yet."""
        with translate_errors():
            found = self._ids.find_one({"_id": "current", "load": {"$exists": True}})
        if found is None:
            return None
        return Loaded(found["load"], found["movies"], found["source"], found["loaded_at"])

    def ids(self) -> array[int]:
        """The ids of the list that counts, ascending, each once; 8 bytes each. Empty when there is none."""
        return self._read()[0]

    def flagged(self, *flags: str) -> list[array[int]]:
        """As `ids`, for each flag (`adult`, `video`) those whose line says true for it; one pass for all."""
        return self._read(*flags)[1:]

    def _begin(self) -> int:
        """A number above every load's before it, whatever the clocks say."""
        with translate_errors():
            counted = self._ids.find_one_and_update(
                {"_id": "current"},
                {"$inc": {"begun": 1}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        if counted is None:
            raise MongoUnavailable("MongoDB: no answer to a new load of ids")
        begun: int = counted["begun"]
        return begun

    def _put(self, load: int, lines: Iterable[bytes], source: str) -> int:
        movies = _parsed(lines, source)
        kept = number = 0
        while block := list(islice(movies, BLOCK)):
            document = {"_id": _block_id(load, number), "load": load, "movies": block}
            with translate_errors():
                try:
                    self._ids.insert_one(document)
                except (BSONError, OverflowError, UnicodeError, RecursionError, DocumentTooLarge):
                    # Half a character in a title, a number beyond 64 bits: no reason to refuse a list of ids.
                    document["movies"] = [_least(movie) for movie in block]
                    self._ids.insert_one(document)
            kept, number = kept + len(block), number + 1
        if not kept:
            raise UsageError(
                f"{source}: expected a JSON object with an id on each line, got no line; "
                "with an empty list every movie would count as gone"
            )
        return kept

    def _make_current(self, loaded: Loaded) -> None:
        """UsageError when a load that began later is done already."""
        earlier = [{"load": {"$exists": False}}, {"load": {"$lt": loaded.load}}]
        with translate_errors():
            changed = self._ids.update_one({"_id": "current", "$or": earlier}, {"$set": asdict(loaded)})
        if not changed.matched_count:
            raise UsageError(f"{loaded.source}: another load began later and is done: that one counts")

    def _remove(self, first: int, last: int) -> None:
        with self._mongo.long_query(), translate_errors():
            self._ids.delete_many(_between(first, last))

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
                    f"of {loaded.source}, {movies:,} of {loaded.movies:,} lines are left in MongoDB: "
                    "load it again with `reelhaul ids load`"
                )
            # Another load took its place, and its blocks, while they were read.
        return [array("q") for _ in (None, *flags)]

    def _blocks(self, load: int, *flags: str) -> Iterator[list[dict[str, Any]]]:
        """One by one: asked for more at once, the embedded server holds all of them in memory."""
        fields = {f"movies.{name}": 1 for name in ("id", *flags)}
        for number in count():
            with translate_errors():
                block = self._ids.find_one({"_id": _block_id(load, number)}, fields)
            if block is None:
                return
            yield block["movies"]


def parse_line(line: bytes) -> Document:
    """The object of one line; ValueError, in words for a person, when it is no movie with an id."""
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
    if type(id_) is not int or not 0 < id_ <= _LARGEST_ID:
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


def _least(movie: Document) -> Document:
    """What is ever read of a line; MongoDB can hold it."""
    return {"id": movie["id"], "adult": movie.get("adult") is True, "video": movie.get("video") is True}


def _block_id(load: int, number: int) -> str:
    """Ordered as the numbers are, and before `current`."""
    return f"{load:010}:{number:010}"


def _between(first: int, last: int) -> Document:
    """Selects the blocks of these loads, both included."""
    return {"_id": {"$gte": f"{first:010}:", "$lt": f"{last + 1:010}:"}}


def _ascending(found: Sequence[int]) -> array[int]:
    """Each once. Sorting takes 40 MB for a million, for a moment."""
    return array("q", (id_ for id_, _ in groupby(sorted(found))))
