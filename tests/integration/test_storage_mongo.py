"""What every store takes from `Mongo`: limits that follow from the server, and errors of ours."""

from datetime import UTC
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.chaos.harness import ChaosMongo
from tests.support.pages import AT, page_of, put
from worker.errors import MongoUnavailable, Rejected
from worker.keys import Fetch, PageKey
from worker.storage.database import Storage
from worker.storage.mongo import SECANTUSDB

KEY = PageKey(18, "1999", 1)


def test_the_embedded_server_gets_its_own_limits(storage: Storage) -> None:
    assert storage.mongo.limits == SECANTUSDB == (100, 300.0)


def test_an_unavailable_server_is_mongo_unavailable() -> None:
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient("mongodb://127.0.0.1:1/reelhaul", serverSelectionTimeoutMS=100) as client:
        storage = Storage(client.get_default_database())
        for call in (
            storage.ping,
            lambda: storage.pages.is_fresh(KEY, None),
            lambda: put(storage, KEY),
            lambda: storage.failures.add(Fetch(KEY), Rejected("no"), AT),
            lambda: list(storage.movies.each()),
            lambda: storage.count_expired(AT),
        ):
            with pytest.raises(MongoUnavailable, match=r"\AMongoDB: [^\n]*\Z"):
                call()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param({"errorCode": 14031}, id="full"),  # OutOfDiskSpace
        pytest.param({"writeConcernError": {"code": 64, "errmsg": "journal"}}, id="journal"),
    ],
)
def test_failed_writes_are_mongo_unavailable(tmp_path: Path, error: dict[str, Any]) -> None:
    """On a full disk, for instance: the documents are not to blame."""
    client: pymongo.MongoClient[dict[str, Any]]
    with (
        ChaosMongo(folder=tmp_path) as server,
        pymongo.MongoClient(server.url, appname="reelhaul", tz_aware=True, tzinfo=UTC) as client,
    ):
        storage = Storage(client["reelhaul"])
        server.fail("insert", "update", **error)
        with pytest.raises(MongoUnavailable):
            storage.pages.save(KEY, page_of([{"id": 603}]))
        with pytest.raises(MongoUnavailable):
            storage.movies.save_page("popular:1", page_of([{"id": 604}]))
        with pytest.raises(MongoUnavailable):
            storage.failures.add(Fetch(KEY), Rejected("no"), AT)
        server.heal()
        storage.pages.save(KEY, page_of([{"id": 603}]))
        assert storage.pages.is_fresh(KEY, None)
