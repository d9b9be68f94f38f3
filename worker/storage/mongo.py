"""What every door to MongoDB needs: pymongo's errors as ours, and how much to ask for at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
from bson import DatetimeConversion
from bson.errors import BSONError
from pymongo import ReadPreference
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DocumentTooLarge, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from worker.errors import Response, StoreAway, Unstorable

Document = dict[str, Any]

#: Ids in one query. The embedded server's time for $in grows with its square: 100 ids 25 ms, 1,000 ids 2 s.
BATCH = 100
#: Marks in one round trip when all are read: about a megabyte.
AT_ONCE = 10_000
#: Seconds for what looks at all documents of a collection; the embedded server has no faster way.
PATIENCE_S = 300.0
#: Server codes that blame the document: bad value, overflow, invalid BSON, names with $ or dots, too large.
_DOCUMENT_CODES = {2, 15, 22, 52, 55, 57, 10334, 17280}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A stored time that is further ahead of the fleet's clock was stamped when that clock was wrong, and is not
#: believed. Servers that take over from each other differ by less.
AHEAD = timedelta(minutes=5)

#: For what may not be forgotten: a majority has it in its journal before it is acknowledged.
JOURNALLED = WriteConcern("majority", j=True)


def dependable(database: Database[Document]) -> Database[Document]:
    """The database as it must be seen to decide anything, whatever MONGO_URL says.

    Read from the primary, all that it has: a secondary lags, and so does what a majority is known to have; a
    compare-and-swap on that comes to no end. Written to a majority: what fewer have, a failover may lose.
    """
    return database.with_options(
        # A time beyond Python's calendar, written by others, must not end the reading of all the rest.
        codec_options=database.codec_options.with_options(
            datetime_conversion=DatetimeConversion.DATETIME_CLAMP
        ),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("local"),
        write_concern=WriteConcern("majority"),
    )


def own_now() -> datetime:
    """Now, by this machine's clock."""
    return datetime.now(UTC)


def since(moment: datetime, latest: datetime) -> Document:
    """Selects times from `moment` on, up to the latest that is to be believed."""
    return {"$gte": moment, "$lte": latest}


@contextmanager
def patience(database: Database[Document]) -> Iterator[None]:
    """The block's questions may take PATIENCE_S; that the server is away is still said as soon as ever."""
    database.command("ping")
    with pymongo.timeout(PATIENCE_S):
        yield


def bounded(seconds: float) -> AbstractContextManager[None]:
    """The block's operations end within so many seconds altogether, be it with an error of MongoDB's."""
    return pymongo.timeout(seconds)


@contextmanager
def translated(body: bytes | None = None) -> Iterator[None]:
    """pymongo's errors as ours; what blames a document made of `body` makes that Unstorable."""
    try:
        yield
    except (BSONError, OverflowError, UnicodeError, RecursionError, DocumentTooLarge) as error:
        if body is None:
            raise
        raise Unstorable(f"{type(error).__name__}: {error}"[:500], Response(200, body)) from None
    except PyMongoError as error:
        codes = {getattr(error, "code", None)}
        if isinstance(error, BulkWriteError):
            codes = {write["code"] for write in error.details["writeErrors"]}
        if body is not None and codes & _DOCUMENT_CODES:
            raise Unstorable(f"MongoDB: {error}"[:500], Response(200, body)) from None
        # What pymongo adds behind this is its whole picture of the servers.
        reason = str(error).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
        raise StoreAway(f"MongoDB: {type(error).__name__}: {reason[:300]}") from error
