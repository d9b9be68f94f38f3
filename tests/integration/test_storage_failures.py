"""The quarantine: what is kept of a failure, and when it ends."""

from datetime import timedelta

import pytest

from tests.support.pages import AT, put
from worker.errors import Rejected
from worker.keys import Fetch, PageKey
from worker.records import Response
from worker.storage.database import Storage
from worker.storage.failures import KEPT_BODY

KEY = PageKey(18, "1999", 1)


def test_counts_attempts_and_keeps_first_and_last(storage: Storage) -> None:
    for offset in (0, 5, -3):
        at = AT + timedelta(seconds=offset)
        storage.failures.add(Fetch(KEY), Rejected(f"HTTP 404 at {offset}", Response(404, b"gone")), at)
    [failure] = storage.failures.collection.find()
    assert failure == {
        "_id": KEY.id,
        "genre_id": 18,
        "window": "1999",
        "page": 1,
        "options": [],
        "class": "rejected",
        "reason": "HTTP 404 at -3",
        "status": 404,
        "headers": {},
        "body": b"gone",
        "attempts": 3,
        "first_at": AT - timedelta(seconds=3),
        "last_at": AT + timedelta(seconds=5),
    }


@pytest.mark.parametrize("body", [b"\xff\x00\xfe", b"x" * (KEPT_BODY + 1)])
def test_keeps_the_first_bytes_of_the_body(storage: Storage, body: bytes) -> None:
    storage.failures.add(Fetch(KEY), Rejected("no", Response(404, body)), AT)
    failure = storage.failures.get(KEY)
    assert failure is not None
    assert failure["body"] == body[:KEPT_BODY]


def test_drops_headers_that_may_hold_secrets(storage: Storage) -> None:
    headers = {"Set-Cookie": "session=1", "AUTHORIZATION": "Bearer 1", "Server": "openresty"}
    storage.failures.add(Fetch(KEY), Rejected("no", Response(404, b"", headers)), AT)
    [failure] = storage.failures.collection.find()
    assert failure["headers"] == {"Server": "openresty"}


@pytest.mark.parametrize("reason", ["HTTP 404: \ud800", "a\x00b", "x" * 10_000])
def test_any_reason_can_be_stored(storage: Storage, reason: str) -> None:
    """It quotes TMDB's JSON, which can hold what BSON cannot."""
    storage.failures.add(Fetch(KEY), Rejected(reason), AT)
    assert list(storage.failures.quarantined()) == [KEY]


def test_quarantine_ends_when_the_page_is_stored_later(storage: Storage) -> None:
    storage.failures.add(Fetch(KEY), Rejected("no"), AT)
    put(storage, KEY, at=AT - timedelta(seconds=1))
    assert list(storage.failures.quarantined()) == [KEY]
    put(storage, KEY, at=AT + timedelta(seconds=1))
    assert storage.failures.quarantined() == {}


def test_a_failure_repeated_meanwhile_stays_in_quarantine(storage: Storage) -> None:
    storage.failures.add(Fetch(KEY), Rejected("no"), AT)
    chosen = storage.failures.quarantined()
    storage.failures.add(Fetch(KEY), Rejected("still no"), AT + timedelta(seconds=1))
    storage.failures.release(chosen)
    assert [failure["attempts"] for failure in storage.failures.quarantined().values()] == [2]
