"""Real servers for tests: one Redis and one MongoDB per session, started when first needed."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import redis
from pymongo.database import Database

from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from tests.support.redis_faults import DelayingProxy, LeapingRedis
from tests.support.stage import Stage
from worker.storage.database import Storage

#: Redis' logical databases in turn, so that a stray process does not write into the next test's.
REDIS_DATABASES = itertools.cycle(range(1, 16))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """The session's Redis. A test that kills or stops one starts its own."""
    with EmbeddedRedis(appendonly=False) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[EmbeddedMongo]:
    """The session's MongoDB. A test that kills or stops one starts its own."""
    with EmbeddedMongo() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> Iterator[str]:
    """The test's own logical database, empty before and after."""
    url = f"redis://127.0.0.1:{redis_server.port}/{next(REDIS_DATABASES)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture
def delaying_proxy(redis_url: str) -> Iterator[DelayingProxy]:
    """A proxy for the test's own logical database; it delays replies once `.delay_s` is set."""
    with DelayingProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def leaping_redis() -> Iterator[LeapingRedis]:
    """The test's own Redis, whose clock can be set; the test needs the mark `needs_faketime`."""
    with LeapingRedis(appendonly=False) as server:
        yield server


@pytest.fixture
def mongo_url(mongo_server: EmbeddedMongo) -> Iterator[str]:
    """The test's own database, named in the URL's path, dropped afterwards."""
    database = f"reelhaul_test_{uuid4().hex[:12]}"
    yield f"{mongo_server.url}/{database}"
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongo_server.url) as client:
        client.drop_database(database)


@pytest.fixture
def database(mongo_url: str) -> Iterator[Database[dict[str, Any]]]:
    """The test's own database, at `mongo_url`."""
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongo_url, tz_aware=True, tzinfo=UTC) as client:
        yield client.get_default_database()


@pytest.fixture
def storage(database: Database[dict[str, Any]]) -> Storage:
    """The collections of the test's own database, by this machine's clock."""
    return Storage(database)


@pytest.fixture
def emulator() -> Iterator[Callable[..., EmulatorProcess]]:
    """Starts emulated TMDBs with the options of `python -m sandbox.emulator`; they stop after the test."""
    with ExitStack() as started:
        yield lambda *options: started.enter_context(EmulatorProcess(*options))


@pytest.fixture
def stage(tmp_path: Path, redis_url: str, mongo_url: str) -> Iterator[Stage]:
    """A fleet on the test's own databases; it ends with the test."""
    with closing(Stage(tmp_path, redis_url, mongo_url)) as stage:
        yield stage
