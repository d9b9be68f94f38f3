"""One database to read from: its address, its genres, its requests, and pymongo's errors as ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

from bson import DatetimeConversion
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from reelhaul.errors import InvalidArgument, NothingStored, Unavailable, UnknownGenre
from worker.storage.selection import READ_INDEX
from worker.windows import FIRST_YEAR, LAST_YEAR

Document = dict[str, Any]

#: The database of an address that names none.
DEFAULT_DATABASE = "reelhaul"
#: Server codes for a user who may only read.
_READ_ONLY = {13, 8000}


class Source:
    """A database, connected when first used; a context manager that closes the connection.

    Every method raises Unavailable. So does the constructor when no name server knows the host; for what is
    no address it raises InvalidArgument.
    """

    def __init__(self, url: str) -> None:
        try:
            if not str(url).startswith(("mongodb://", "mongodb+srv://")):
                raise TypeError  # noqa: TRY301 -- with pymongo's own
            # Half a minute, pymongo's own, is long for a typing error in a notebook; an address may say more.
            patience: dict[str, Any] = {}
            if "serverselectiontimeoutms=" not in url.lower():
                patience["serverSelectionTimeoutMS"] = 5_000
            self._client: MongoClient[Document] = MongoClient(
                url,
                tz_aware=True,
                tzinfo=UTC,
                datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
                unicode_decode_error_handler="replace",
                appname="reelhaul.read",
                **patience,
            )
        # Nothing of the address is quoted: it may be half a password.
        except (PyMongoError, ValueError, TypeError) as error:
            # For mongodb+srv, pymongo asks a name server, and raises dnspython's errors as its own.
            if type(error.__cause__).__module__.startswith("dns."):
                reason = type(error.__cause__).__name__
                raise Unavailable(f"MongoDB: no name server knows the host of the url ({reason})") from None
            raise InvalidArgument(
                "url: expected mongodb://USER:PASSWORD@HOST:PORT/DATABASE; escape @ : / ? # in a password"
            ) from None
        self.database: Database[Document] = self._client.get_default_database(DEFAULT_DATABASE)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @cached_property
    def requests(self) -> list[Document]:
        """The backfills that a person requested and did not cancel, each with `genres` and `years`."""
        query = {"kind": "backfill", "schedule_entry": "", "cancelled_at": {"$exists": False}}
        with translated():
            return list(self.database["requests"].find(query))

    @cached_property
    def requested_genres(self) -> dict[int, str]:
        """Names by id of the genres that a person requested."""
        return {genre["id"]: genre["name"] for request in self.requests for genre in request["genres"]}

    @cached_property
    def genre_names(self) -> dict[int, str]:
        """Names by id of every known genre, sorted by name."""
        with translated():
            stored = self.database["genres"].find().sort("name", 1)
            return {genre["_id"]: genre["name"] for genre in stored} | self.requested_genres

    def genre_ids(self, genres: str | int | Iterable[str | int] | None) -> tuple[int, ...] | None:
        """The ids of genres given by names (any case) or ids; NothingStored while no name is known."""
        if genres is None:
            return None
        known = self.genre_names
        if not known:
            raise NothingStored("no genres are known yet: `reelhaul genres` asks TMDB for them")
        ids = {name.lower(): id_ for id_, name in known.items()}
        found: dict[int, None] = {}
        for genre in [genres] if isinstance(genres, str | int) else genres:
            id_ = ids.get(genre.strip().lower()) if isinstance(genre, str) else genre
            if id_ not in known and not (isinstance(id_, int) and self._is_stored(id_)):
                names = ", ".join(f"{name} ({known_id})" for known_id, name in known.items())
                raise UnknownGenre(f"genres: unknown genre {genre!r:.60}; expected some of: {names}")
            found[id_] = None
        if not found:
            raise InvalidArgument("genres: none given; leave it out for all of them")
        return tuple(found)

    def _is_stored(self, genre_id: int) -> bool:
        """Whether a movie has the genre; TMDB gives no name to some old ones."""
        with translated():
            return self.database["movies"].find_one({"genre_ids": genre_id}, {"_id": 1}) is not None

    def require_any(self, collection: str, hint: str) -> None:
        """Raise NothingStored when the collection is empty."""
        with translated():
            if self.database[collection].find_one({}, {"_id": 1}) is None:
                raise NothingStored(f"no {collection} are stored yet: {hint}")

    def create_index(self) -> None:
        """Create the index that filters need, unless the user may only read."""
        with translated():
            try:
                self.database["movies"].create_index(READ_INDEX)
            except OperationFailure as error:
                if error.code not in _READ_ONLY:
                    raise


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for pymongo's errors."""
    try:
        yield
    except (PyMongoError, BSONError) as error:
        # pymongo appends its view of every server.
        reason = str(error).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
        raise Unavailable(f"MongoDB: {type(error).__name__}: {reason[:300]}") from error


def checked_years(years: object) -> tuple[int, ...] | None:
    """The years, ascending, each once; InvalidArgument for what is no year."""
    if years is None:
        return None
    given: list[Any] = list(years) if isinstance(years, Iterable) and not isinstance(years, str) else [years]
    for year in given:
        if not isinstance(year, int) or not FIRST_YEAR <= year <= LAST_YEAR:
            raise InvalidArgument(
                f"years: expected numbers within {FIRST_YEAR}..{LAST_YEAR}, got {year!r:.60}"
            )
    if not given:
        raise InvalidArgument("years: none given; leave it out for all of them")
    return tuple(sorted(set(given)))


def moment(since: object) -> datetime | None:
    """The moment, in UTC if it names no zone; a date is its first moment. Strings are ISO 8601."""
    if since is None:
        return None
    given = since
    if isinstance(since, str):
        with suppress(ValueError):
            since = datetime.fromisoformat(since)
    elif isinstance(since, date) and not isinstance(since, datetime):
        since = datetime(since.year, since.month, since.day, tzinfo=UTC)
    if not isinstance(since, datetime):
        raise InvalidArgument(f"since: expected a date or time, such as 2026-05-01, got {given!r:.60}")
    return since.replace(tzinfo=UTC) if since.tzinfo is None else since


def ids_of(document: Mapping[str, Any]) -> list[int]:
    """The distinct genre ids of a movie; whatever else TMDB sent in their place is left out."""
    ids = document.get("genre_ids")
    return sorted({id_ for id_ in ids if type(id_) is int}) if isinstance(ids, list) else []
