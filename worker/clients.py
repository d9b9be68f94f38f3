"""Builds client, limiter and store once per process, after the fork, when first asked for."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache, partial

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from worker.errors import BrokerAway, UsageError
from worker.labels import Names
from worker.limiter.client import Limiter
from worker.settings import DEFAULT_DATABASE, settings
from worker.storage.id_export import IdExport
from worker.storage.mongo import Document, own_now
from worker.storage.movies import Movies
from worker.storage.store import Store
from worker.tmdb.client import TmdbClient
from worker.tmdb.connections import Connections, HostShare
from worker.tmdb.session import build_session, open_anew


@cache
def redis_client() -> Redis:
    """Redis at REDIS_URL; connects when first used."""
    return Redis.from_url(
        settings().redis_url.get_secret_value(),
        socket_connect_timeout=3,
        socket_timeout=10,
        socket_keepalive=True,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 3),
    )


@cache
def limiter() -> Limiter:
    """The fleet's gate."""
    return Limiter(redis_client(), settings().reelhaul_rate, settings().reelhaul_capacity)


@cache
def host_share() -> HostShare:
    """This process' part of the host's connections to the API."""
    return HostShare(settings().reelhaul_connections, settings().reelhaul_run_folder)


@cache
def tmdb_client() -> TmdbClient:
    """TMDB at TMDB_BASE_URL; UsageError when there is no key."""
    chosen = settings()
    chosen.require_key()
    token = chosen.tmdb_token.get_secret_value() if chosen.tmdb_token else None
    params = {"api_key": chosen.tmdb_api_key.get_secret_value()} if chosen.tmdb_api_key and not token else {}
    # As many as are ever let through at once, so that nothing waits for a connection with its token.
    size = chosen.reelhaul_connections
    session = build_session(token, size, chosen.tmdb_base_url)
    connections = Connections(host_share().size, partial(open_anew, session, size))
    return TmdbClient(
        session, chosen.tmdb_base_url, limiter(), chosen.reelhaul_timeout_s, params, connections
    )


@cache
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


@cache
def store() -> Store:
    """What is fetched, and what was asked for."""
    return Store(database(), about_now)


@cache
def id_export() -> IdExport:
    """TMDB's daily list of ids, as last loaded."""
    return IdExport(database())


@cache
def movies() -> Movies:
    """Single movies: what is wanted of them, their details."""
    return Movies(database(), about_now)


@cache
def names() -> Names:
    """What pages are called."""
    return Names(store())


def fleet_now() -> datetime:
    """Now, on the fleet's one clock."""
    return datetime.fromtimestamp(limiter().now_us() // 1000 / 1000, UTC)


def about_now() -> datetime:
    """`fleet_now`, mostly without a round trip; by this machine's clock where Redis never answered."""
    try:
        return datetime.fromtimestamp(limiter().about_now_us() / 1e6, UTC)
    except BrokerAway:
        return own_now()


def hang_up() -> None:
    """Leave the host's connections to the workers: for a process that has asked what it needed."""
    if host_share.cache_info().currsize:
        host_share().leave()
    host_share.cache_clear()
    tmdb_client.cache_clear()


def forget() -> None:
    """Drop what was built: sockets must not be shared with the parent of a fork."""
    for built in (redis_client, limiter, host_share, tmdb_client, database, store, id_export, movies, names):
        built.cache_clear()


os.register_at_fork(after_in_child=forget)
