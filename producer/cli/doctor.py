"""`reelhaul doctor`: check what Reelhaul depends on, and say how to fix it."""

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

import typer
from redis.exceptions import RedisError, ResponseError
from rich.markup import escape

from producer.cli.options import AsJson
from producer.cli.render import console, limiter_status, print_json
from worker.clients import fleet_now, limiter, redis_client, storage, tmdb_client
from worker.errors import (
    ApiFailure,
    KeyRejected,
    NoToken,
    RateLimited,
    RedisUnavailable,
    ReelhaulError,
    UsageError,
)
from worker.monitoring.run_folder import open_run_folder
from worker.settings import settings
from worker.tmdb.endpoints import KEY_CHECK

#: A larger difference between this machine's clock and Redis' gets a remark, in seconds.
CLOCK_S = 5.0
#: Seconds to wait for a token.
KEY_CHECK_S = 20.0
SET_KEY = (
    "set TMDB_TOKEN (preferred) or TMDB_API_KEY in the environment or in .env; "
    "both are at themoviedb.org, Settings, API"
)
PACKAGES = ("celery", "kombu", "redis", "requests", "pymongo", "flower")


class _Wrong(ReelhaulError):
    """A check failed, and its usual advice does not fit."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.advice = advice


def doctor(as_json: AsJson = False) -> None:
    """Check Redis, MongoDB, run folder, TMDB, clock and versions; exit 2 when something needs fixing."""
    settings()  # a bad setting is one error, not one in each check
    out, results = console(quiet=as_json), list[dict[str, object]]()
    for name, check, usual in CHECKS:
        try:
            text, advice = check(), ""
        except ReelhaulError as error:
            text, advice = str(error).removeprefix(f"{name}: "), str(getattr(error, "advice", usual))
        word = "[red]wrong[/]" if advice else "[green]ok[/]   "
        out.print(f"{word} {name}: {escape(text)}", soft_wrap=True)
        if advice:
            out.print(f"      {advice}", soft_wrap=True)
        results.append({"check": name, "ok": not advice, "text": text, "advice": advice})
    healthy = all(result["ok"] for result in results)
    if as_json:
        print_json({"ok": healthy, "checks": results})
    if not healthy:
        raise typer.Exit(2)


def _redis() -> str:
    begun = time.monotonic()
    limiter().now_us()
    took_ms = (time.monotonic() - begun) * 1e3
    return f"answers in {took_ms:.1f} ms, eviction {_eviction()}"


def _eviction() -> str:
    try:
        return str(redis_client().info("memory").get("maxmemory_policy", "unknown"))
    except ResponseError:  # a managed Redis, or a user without the right
        return "unknown, for Redis refuses INFO"
    except RedisError as error:
        raise RedisUnavailable(f"Redis: {type(error).__name__}: {error}") from error


def _mongo() -> str:
    begun = time.monotonic()
    storage().ping()
    return f"answers in {(time.monotonic() - begun) * 1e3:.1f} ms, {storage().movies.count():,} movies stored"


def _run_folder() -> str:
    return str(open_run_folder(settings().reelhaul_run_folder))


def _tmdb() -> str:
    if settings().key is None:
        raise UsageError("no key is set")
    address = f"{settings().tmdb_base_url}{KEY_CHECK.path}"
    try:
        closed = limiter().state().closed_reason
        tmdb_client().check_key(time.monotonic() + KEY_CHECK_S)
    except (ApiFailure, RateLimited) as error:
        raise _Wrong(
            f"{address}: {error}", "check TMDB_BASE_URL and the network; the key may be right"
        ) from None
    except RedisUnavailable:
        raise _Wrong(f"{address} was not asked: no request without Redis", "fix that first") from None
    except NoToken as error:
        raise _Wrong(f"{address} was not asked: {error}", "see `reelhaul limit`") from None
    except KeyRejected as error:
        raise KeyRejected(f"{address}: {error}") from None
    name = "TMDB_TOKEN" if settings().tmdb_token else "TMDB_API_KEY"
    note = "; others had an outage: do workers use the same TMDB_BASE_URL?" if closed == "outage" else ""
    return f"{name} is accepted by {address} (HTTP 200){note}"


def _clock() -> str:
    ahead_s = (datetime.now(UTC) - fleet_now()).total_seconds()
    note = "; harmless, but logs will look odd" if abs(ahead_s) > CLOCK_S else ""
    return f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} Redis'{note}"


def _limiter() -> str:
    state = limiter().state()
    rate = f"{state.current_per_s:g}/s of {state.configured}"
    return f"{limiter_status(state)}, {rate}, {state.refused:,} refused so far"


def _versions() -> str:
    return f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES)


#: Name, check, advice when it fails.
CHECKS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("Redis", _redis, "start it, or `reelhaul standalone`; its address is REDIS_URL"),
    ("MongoDB", _mongo, "start it, or `reelhaul standalone`; its address is MONGO_URL"),
    ("run folder", _run_folder, "a host's processes share it: set REELHAUL_RUN_FOLDER"),
    ("TMDB", _tmdb, SET_KEY),
    ("clock", _clock, "it is read from Redis: fix that first"),
    ("limiter", _limiter, "it is kept in Redis: fix that first"),
    ("versions", _versions, "install what is missing"),
)
