"""Requests: what was asked for, what of it is missing, and the messages that fetch it."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from producer.queues import enqueue
from producer.requests.backfills import Backfill, TotalsCheck
from producer.requests.changes import Changes
from producer.requests.movies import AgingMovies, Details
from producer.requests.popular import Popular
from producer.requests.request import Request
from worker.errors import UsageError
from worker.keys import Fetch, Key, MovieKey
from worker.storage.database import Storage
from worker.storage.documents import log_unreadable

KINDS: dict[str, type[Request]] = {
    kind.kind: kind for kind in (Backfill, TotalsCheck, Popular, Changes, Details, AgingMovies)
}
#: After this long, whether a finished request is still complete is computed again: pages may have been
#: deleted by hand, or lost in a failover.
TRUSTED = timedelta(hours=1)
#: Single movies enqueued at a time: two minutes' worth of TMDB's limit, eight while pages wait.
MOVIES_ENQUEUED = 4_000


def enqueue_request(storage: Storage, request: Request, queue: str = "cells") -> int:
    """Save the request and enqueue what is missing; returns how many messages.

    Raises MongoUnavailable; RedisUnavailable when some messages may not have been sent. Call it again then.
    """
    save_request(storage, request)
    return enqueue_some(request.fetches(request.missing(storage)), queue)


def save_request(storage: Storage, request: Request) -> None:
    """Save the request: from now on, what it lacks is missing."""
    storage.pages.create_indexes()  # while the collection is still empty
    storage.requests.save(request.id, request.to_document())


def enqueue_some(missing: Iterator[Fetch[Key]], queue: str = "cells") -> int:
    """Enqueue pages, and up to MOVIES_ENQUEUED single movies; returns how many. Raises RedisUnavailable."""

    def some() -> Iterator[Fetch[Key]]:
        movies = 0
        for fetch in missing:
            yield fetch
            movies += isinstance(fetch.key, MovieKey)
            if movies >= MOVIES_ENQUEUED:
                return

    return enqueue(some(), queue)


def all_requests(storage: Storage) -> list[Request]:
    """Every saved request, the latest first."""
    return [request for document in storage.requests.all() if (request := request_of(document))]


def all_backfills(storage: Storage) -> list[Backfill]:
    """The backfills that are not cancelled, the latest first."""
    documents = storage.requests.all(cancelled=False)
    requests = (request_of(document) for document in documents)
    return [request for request in requests if type(request) is Backfill]


def requested_backfills(storage: Storage) -> list[Backfill]:
    """Those of the backfills that a person asked for, the latest first."""
    return [backfill for backfill in all_backfills(storage) if not backfill.schedule_entry]


def unfinished_requests(storage: Storage) -> list[Request]:
    """The requests that are not known to be finished, the latest first; cancelled ones too."""
    documents = storage.requests.all(unfinished=True)
    return [request for document in documents if (request := request_of(document))]


def incomplete(storage: Storage, ids: Collection[str]) -> set[str]:
    """Those of the requests with these ids that lack anything now, and are not cancelled."""
    wanted = set(ids) & set(storage.requests.active_ids())
    unfinished = unfinished_requests(storage) if wanted else ()
    return {request.id for request in unfinished if request.id in wanted and any(request.missing(storage))}


def saved_request(storage: Storage, request_id: str) -> Request:
    """The request with that id; UsageError when there is none that can be read."""
    document = storage.requests.get(request_id)
    request = request_of(document) if document else None
    if request is None:
        raise UsageError(f"no request {request_id!r:.60}; `reelhaul backfills` lists them all")
    return request


def find_missing(storage: Storage, now: datetime) -> Iterator[Iterator[Fetch[Key]]]:
    """What is missing, for each request that lacks anything; the others are noted as finished.

    What is cancelled lacks nothing.
    """
    for document in storage.requests.all(cancelled=False):
        finished_at = document.get("finished_at")
        if finished_at and now - TRUSTED < finished_at <= now:
            continue
        if document.get("requested_at", now) > storage.mongo.latest():
            # Requested while the clock was ahead: no page that is fetched now would count as fresh.
            document["requested_at"] = now
            storage.requests.correct_date(document["_id"], now)
        if request := request_of(document):
            missing = request.missing(storage)
            first = next(missing, None)
            if first is None:
                storage.requests.finish(document, now)
            else:
                # By the document's id: a person may have chosen another than the request's own.
                yield request.fetches(chain([first], missing), str(document["_id"]))


def request_of(document: Mapping[str, Any]) -> Request | None:
    """The request; None, and a line in the log, for what another version or a person wrote."""
    with suppress(KeyError, TypeError, ValueError):
        request = KINDS[document["kind"]].from_document(document)
        if request.requested_at.tzinfo and request.id:
            return request
    log_unreadable("requests", document["_id"])
    return None
