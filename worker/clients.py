"""Builds each client once per process, when it is first needed, so after the fork."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from worker.active_requests import ActiveRequests
from worker.errors import RedisUnavailable, UsageError
from worker.labels import Labels
from worker.limiter.client import Limiter
from worker.settings import DEFAULT_DATABASE, settings
from worker.storage.database import Storage
from worker.storage.mongo import Document, own_now
from worker.tmdb.client import TmdbClient
from worker.tmdb.connections import Connections, HostShare
from worker.tmdb.credentials import Credentials
from worker.tmdb.session import build_session, reconnect

T = TypeVar("T")
_building = threading.RLock()


class _Once(Generic[T]):
    """A function's result, made at the first call: by one thread, where functools.cache lets several try."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build, self.__doc__ = build, build.__doc__
        self.built: T | None = None

    def __call__(self) -> T:
        if self.built is None:
            with _building:
                if self.built is None:
                    self.built = self._build()
        return self.built


@_Once
def redis_client() -> Redis:
    """Redis at REDIS_URL; connects when first used."""
    return Redis.from_url(
        settings().redis_url.get_secret_value(),
        socket_connect_timeout=3,
        socket_timeout=10,
        socket_keepalive=True,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 3),
    )


@_Once
def limiter() -> Limiter:
    """The fleet's limiter."""
    return Limiter(redis_client(), settings().reelhaul_rate, settings().reelhaul_capacity)


@_Once
def host_share() -> HostShare:
    """This process' share of the host's connections to TMDB."""
    return HostShare(settings().reelhaul_connections, settings().reelhaul_run_folder)


@_Once
def tmdb_client() -> TmdbClient:
    """TMDB at TMDB_BASE_URL; UsageError when there is no key."""
    chosen = settings()
    chosen.require_key()
    token, api_key = (
        key.get_secret_value() if key else "" for key in (chosen.tmdb_token, chosen.tmdb_api_key)
    )
    credentials = Credentials(token, api_key)
    # As many as may ever be in use at once: no request with a token waits for the session's pool.
    size = chosen.reelhaul_connections
    session = build_session(chosen.tmdb_base_url, size, credentials)
    connections = Connections(host_share().size, lambda: reconnect(session, size, credentials))
    return TmdbClient(
        session, chosen.tmdb_base_url, limiter(), chosen.reelhaul_timeout_s, credentials, connections
    )


@_Once
def database() -> Database[Document]:
    """MongoDB at MONGO_URL; connects when first used. UsageError when the address cannot be used."""
    try:
        client: MongoClient[Document] = MongoClient(
            settings().mongo_url.get_secret_value(),
            tz_aware=True,
            tzinfo=UTC,
            appname="reelhaul",
            serverSelectionTimeoutMS=5_000,
            socketTimeoutMS=10_000,
        )
    except (PyMongoError, ValueError) as error:
        raise UsageError(f"MONGO_URL: {error}") from None
    return client.get_default_database(DEFAULT_DATABASE)


@_Once
def storage() -> Storage:
    """The database's collections."""
    return Storage(database(), about_now)


@_Once
def active_requests() -> ActiveRequests:
    """The requests that are wanted."""
    return ActiveRequests(storage(), limiter())


@_Once
def labels() -> Labels:
    """Labels for messages."""
    return Labels(storage())


def fleet_now() -> datetime:
    """Now, by Redis' clock, which the whole fleet uses. Raises RedisUnavailable."""
    return datetime.fromtimestamp(limiter().now_us() // 1000 / 1000, UTC)


def about_now() -> datetime:
    """`fleet_now`, usually without a round trip; this machine's clock if Redis has never answered."""
    try:
        return datetime.fromtimestamp(limiter().about_now_us() / 1e6, UTC)
    except RedisUnavailable:
        return own_now()


def last_failure() -> str:
    """The address that this process' client last got no usable response from, and why; "" for none."""
    return tmdb_client.built.last_failure if tmdb_client.built else ""


def close_api_client() -> None:
    """Leave the host's connections to the workers: for commands that have made their requests."""
    if host_share.built:
        host_share.built.leave()
    host_share.built = tmdb_client.built = None


def clear_cached_clients() -> None:
    """Drop all clients: a forked process must not share sockets with its parent."""
    global _building  # noqa: PLW0603 -- a thread of the parent may have held it
    _building = threading.RLock()
    for client in (
        redis_client, limiter, host_share, tmdb_client, database, storage, active_requests, labels,
    ):  # fmt: skip
        client.built = None


os.register_at_fork(after_in_child=clear_cached_clients)
