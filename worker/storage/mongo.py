"""One MongoDB database as every store uses it: safe options, pymongo's errors as ours, bounded queries."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import pymongo
from bson import DatetimeConversion
from bson.errors import BSONError
from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DocumentTooLarge, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from worker.errors import MongoUnavailable, Unstorable
from worker.records import Response

Document = dict[str, Any]
T = TypeVar("T")

#: Documents in one round trip when a whole collection is read: about a megabyte of page records.
READ_BATCH = 10_000
#: Raised by bson or pymongo for a document that cannot be sent.
ENCODING_ERRORS = (BSONError, OverflowError, UnicodeError, RecursionError, DocumentTooLarge)
#: Server codes that blame the document: bad value, overflow, invalid BSON, names with $ or dots, too large.
_DOCUMENT_CODES = {2, 15, 22, 52, 55, 57, 10334, 17280}
#: Server code for a write that met an `_id` that exists already.
DUPLICATE = 11000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A stored time further ahead of the fleet's clock than this was stamped while that clock was wrong, and is
#: ignored. Redis servers that take over from each other differ by less.
AHEAD = timedelta(minutes=5)

#: For what must not be lost: acknowledged once a majority has it in its journal.
JOURNALLED = WriteConcern("majority", j=True)


class QueryLimits(NamedTuple):
    """How much to ask of a server at a time."""

    #: Ids in one `$in`.
    ids: int
    #: Seconds for a query that looks at a whole collection.
    long_query_s: float


MONGODB = QueryLimits(ids=1_000, long_query_s=60.0)
#: SecantusDB's time for `$in` grows with the square of its length (100 ids 25 ms, 1,000 ids 2 s), and it
#: sorts and counts a million documents in minutes.
SECANTUSDB = QueryLimits(ids=100, long_query_s=300.0)


class Mongo:
    """A database, read from its primary and written to a majority whatever MONGO_URL says; safe for threads.

    `now` is the fleet's clock. A secondary lags, and so does what a majority is known to have: a
    compare-and-swap based on either never ends. A failover may lose what fewer than a majority have.
    """

    def __init__(self, database: Database[Document], now: Callable[[], datetime]) -> None:
        self.database = database.with_options(
            # A time beyond Python's calendar, written by somebody else, must not stop a long query.
            codec_options=database.codec_options.with_options(
                datetime_conversion=DatetimeConversion.DATETIME_CLAMP
            ),
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("local"),
            write_concern=WriteConcern("majority"),
        )
        self.journalled = self.database.with_options(write_concern=JOURNALLED)
        self.now = now

    def latest(self) -> datetime:
        """The latest stored time that is not ignored."""
        return self.now() + AHEAD

    def since(self, moment: datetime) -> Document:
        """Select times from `moment` to `latest`."""
        return {"$gte": moment, "$lte": self.latest()}

    @cached_property
    def limits(self) -> QueryLimits:
        """The limits that suit the server, by its buildInfo; one round trip, the first time."""
        with translate_errors():
            return SECANTUSDB if "secantusVersion" in self.database.command("buildInfo") else MONGODB

    def batches(self, ids: Iterable[T]) -> Iterator[list[T]]:
        """The ids in lists that fit into one query."""
        return batches(ids, self.limits.ids)

    @contextmanager
    def long_query(self) -> Iterator[None]:
        """Let the block's queries take `limits.long_query_s`, and translate their errors.

        A ping goes first, so that an unavailable server fails as fast as in any other query.
        """
        with translate_errors():
            self.database.command("ping")
            with pymongo.timeout(self.limits.long_query_s):
                yield


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`; the last may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def claim(collection: Collection[Document], name: str, period: timedelta, now: datetime) -> bool:
    """Claim atomically, unless claimed within `period`; True for exactly one caller."""
    not_lately = [{"claimed_at": {"$lte": now - period}}, {"claimed_at": {"$gt": now + AHEAD}}]
    due: Document = {"_id": name, "$or": not_lately}
    with translate_errors():
        try:
            return collection.update_one(due, {"$set": {"claimed_at": now}}, upsert=True).acknowledged
        except DuplicateKeyError:
            return False


def own_now() -> datetime:
    """Now, by this machine's clock."""
    return datetime.now(UTC)


def bounded(seconds: float) -> AbstractContextManager[None]:
    """Limit the block's operations to `seconds` altogether; pymongo raises an error beyond that."""
    return pymongo.timeout(seconds)


@contextmanager
def translate_errors(body: bytes | None = None) -> Iterator[None]:
    """Raise MongoUnavailable for pymongo's errors, Unstorable for those that blame the documents.

    `body` is the response that the documents were made of; without one no document is blamed.
    """
    try:
        yield
    except ENCODING_ERRORS as error:
        if body is None:
            raise
        raise Unstorable(f"{type(error).__name__}: {error}"[:500], Response(200, body)) from None
    except PyMongoError as error:
        codes = {getattr(error, "code", None)}
        if isinstance(error, BulkWriteError):
            codes = {write["code"] for write in error.details["writeErrors"]}
        if body is not None and codes & _DOCUMENT_CODES:
            raise Unstorable(f"MongoDB: {error}"[:500], Response(200, body)) from None
        # pymongo appends its view of every server.
        reason = str(error).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
        raise MongoUnavailable(f"MongoDB: {type(error).__name__}: {reason[:300]}") from error
