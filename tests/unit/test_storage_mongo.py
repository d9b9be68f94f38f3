"""Limits by server, translated errors and times beyond the calendar, without a server."""

from typing import Any

import pymongo
import pytest
from bson import decode, encode
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from worker.errors import MongoUnavailable
from worker.storage.mongo import MONGODB, SECANTUSDB, Mongo, QueryLimits, own_now

BUILD_INFOS = [
    pytest.param({"version": "8.2.11", "modules": []}, MONGODB, id="MongoDB"),
    pytest.param({"version": "8.2.11", "secantusVersion": "0.7.0b3"}, SECANTUSDB, id="SecantusDB"),
]


@pytest.fixture
def mongo() -> Mongo:
    return Mongo(pymongo.MongoClient(connect=False)["reelhaul"], own_now)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, build_info: dict[str, Any]) -> list[str]:
    """Answers buildInfo and ping; returns the names of the commands sent."""
    sent = []

    def command(_: Database[Any], name: str) -> dict[str, Any]:
        sent.append(name)
        return {"buildInfo": build_info, "ping": {}}[name]

    monkeypatch.setattr(Database, "command", command)
    return sent


def test_the_limits() -> None:
    assert MONGODB == (1_000, 60.0)
    assert SECANTUSDB == (100, 300.0)


@pytest.mark.parametrize(("build_info", "limits"), BUILD_INFOS)
def test_limits_follow_from_the_server_which_is_asked_once(
    mongo: Mongo, commands: list[str], limits: QueryLimits
) -> None:
    assert (mongo.limits, mongo.limits) == (limits, limits)
    assert commands == ["buildInfo"]
    assert [len(batch) for batch in mongo.batches(range(2 * limits.ids + 1))] == [limits.ids, limits.ids, 1]


@pytest.mark.parametrize(("build_info", "limits"), BUILD_INFOS)
@pytest.mark.usefixtures("commands")
def test_a_long_query_gets_its_time_and_translates_errors(mongo: Mongo, limits: QueryLimits) -> None:
    def query() -> None:
        left_s = pymongo._csot.remaining()
        assert left_s is not None
        assert limits.long_query_s - 10 < left_s <= limits.long_query_s
        raise AutoReconnect("cut")

    with pytest.raises(MongoUnavailable, match="MongoDB: AutoReconnect: cut"), mongo.long_query():
        query()


def test_times_beyond_the_calendar_can_be_read(mongo: Mongo) -> None:
    """MongoDB accepts them; SecantusDB does not."""
    far = encode({"fetched_at": DatetimeMS(2**60)})
    assert decode(far, mongo.database.codec_options)["fetched_at"].year == 9999
