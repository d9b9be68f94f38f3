"""Retry, requeue and quarantine policy for one task.

for attempt in Attempts(deadlines, ...):      retries after 429s, outages and claims
    with attempt:
        page = tmdb_client().get(...)

retry_storage(save, deadline)                 retries while MongoDB is unavailable

with message_outcome(fetch, task_id):         NotNow: requeue; NotEver: quarantine
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import NamedTuple, NoReturn, Self, TypeVar

import structlog

from worker.clients import fleet_now, last_failure, limiter, storage, tmdb_client
from worker.errors import (
    ApiFailure,
    Claimed,
    HostFailure,
    KeyRejected,
    MongoUnavailable,
    NotEver,
    NotNow,
    NoToken,
    Poison,
    RateLimited,
    Stopping,
    Unexpected,
    UsageError,
)
from worker.keys import Fetch, Key
from worker.kinds import Requests, kind_of
from worker.monitoring.breaker import breaker
from worker.monitoring.metrics import count, spent
from worker.settings import redacted
from worker.storage.mongo import bounded
from worker.tmdb.client import WHOLE_S
from worker.tmdb.flakiness import Suspicion

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds that a task waits for a token or for MongoDB before it is requeued. No attempt starts later.
WAIT_S = 30.0
#: Seconds after which a task has saved its page or requeued its message: the wait, the last request (12 s),
#: and the last comparison (12 s), which starts at most 2 s later.
TASK_S = 56.0
#: Additional seconds to write into quarantine.
QUARANTINE_S = 10.0
#: Seconds to wait before a message is requeued because of this machine.
HOST_FAILURE_S = 2.0
#: Seconds between two checks for a page that another thread is fetching.
CLAIM_POLL_S = 0.5
#: Seconds for one MongoDB operation until it is retried on another connection ...
STORAGE_ATTEMPT_S = 15.0
#: ... and the least, when no time is left.
LAST_STORAGE_ATTEMPT_S = 1.0


class Deadlines(NamedTuple):
    """When a task stops waiting for its response, and when it ends; both on time.monotonic()."""

    waiting: float
    task: float

    @classmethod
    def from_now(cls, wait_s: float | None = None) -> Self:
        waiting = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
        return cls(waiting, waiting + TASK_S - WAIT_S)


class Attempts:
    """Attempts at one request, until one succeeds: make the request in the `with` block of each.

    An attempt waits after a 429, an outage or a claim. It raises everything else: NotNow when no time is left
    for another attempt, NotEver for what belongs in quarantine, KeyRejected.
    """

    def __init__(
        self, deadlines: Deadlines, key: Key | None = None, requests: Requests | None = None
    ) -> None:
        """`requests(key)` is what is attempted; without a key, failures are compared with nothing."""
        self._deadline = deadlines.waiting
        compare_until = deadlines.task - WHOLE_S
        self._suspicion = Suspicion(key, requests, compare_until, tmdb_client, limiter)
        self._succeeded = False

    def __iter__(self) -> Iterator[AbstractContextManager[None]]:
        while not self._succeeded:
            yield self._attempt()

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        begun = time.monotonic()
        if begun >= self._deadline:
            raise NoToken("no time for another attempt")
        try:
            yield
        except RateLimited:
            return  # the limiter pauses the fleet, and with it the next attempt
        except Claimed as claim:
            limiter().sleep(min(claim.wait_s, CLAIM_POLL_S))
        except ApiFailure as failure:
            self._suspicion.failed(failure)
            self._suspicion.sleep(begun, self._deadline)
        except NotEver:
            self._suspicion.succeeded()
            raise
        else:
            self._suspicion.succeeded()
            self._succeeded = True


def ask(request: Callable[[float], T], wait_s: float | None = None) -> T:
    """Return `request(deadline)`, for a command: waits `wait_s` (None: WAIT_S). Raises as Attempts does.

    The text of NoToken and Poison names the address that gave no usable response, if that is why.
    """
    deadlines = Deadlines.from_now(wait_s)
    try:
        for attempt in Attempts(deadlines):
            with attempt:
                answer = request(deadlines.waiting)
    except (NoToken, Poison) as error:
        if failure := last_failure():
            error.args = (f"{error}; last asked: {failure}",)
        raise
    return answer


def retry_storage(work: Callable[[], T], deadline: float) -> T:
    """Return `work()`, retried while MongoDB is unavailable; MongoUnavailable after `deadline`."""
    pause_s = 0.1
    while True:
        left_s = deadline - time.monotonic()
        try:
            with spent("store"), bounded(min(max(left_s, LAST_STORAGE_ATTEMPT_S), STORAGE_ATTEMPT_S)):
                return work()
        except MongoUnavailable as error:
            log.warning("MongoDB unavailable", reason=str(error))
            if time.monotonic() + pause_s > deadline:
                raise
        limiter().sleep(pause_s)
        pause_s = min(2 * pause_s, 5.0)


@contextmanager
def message_outcome(fetch: Fetch[Key], task_id: str | None) -> Iterator[Deadlines]:
    """Acknowledge, requeue or quarantine the message, according to the block's error.

    None: acknowledge. NotNow, KeyRejected: requeue. NotEver: quarantine the key and fail the task, as Flower
    shows. Other errors are the fault of this machine or worker (requeue), or a bug on this page (quarantine).
    """
    from celery.exceptions import Reject  # noqa: PLC0415 -- commands use `ask` without Celery

    with structlog.contextvars.bound_contextvars(page=fetch.key.id, task=task_id), spent("task"):
        try:
            with _quarantine_on_failure(fetch):
                yield Deadlines.from_now()
        except HostFailure as failure:
            log.warning("requeued", reason=str(failure))
            with suppress(Stopping):  # without a pause, the same message would come back at once
                limiter().sleep(HOST_FAILURE_S)
            raise Reject(str(failure), requeue=True) from None
        except (NotNow, KeyRejected) as error:
            log.debug("requeued", reason=str(error))
            raise Reject(str(error), requeue=True) from None


@contextmanager
def _quarantine_on_failure(fetch: Fetch[Key]) -> Iterator[None]:
    if breaker().tripped:
        raise HostFailure("this worker stops")
    try:
        yield
    except NotEver as failure:
        quarantine(fetch, failure)
        raise
    except (NotNow, KeyRejected):
        raise
    except Exception as error:
        reason = redacted(f"{type(error).__name__}: {error}")
        if _is_host_failure(error):
            raise HostFailure(reason) from None
        if breaker().fail(fetch.key.id, reason):
            raise HostFailure("this worker stops") from None
        quarantine(fetch, Unexpected(reason))
        raise
    else:
        breaker().succeed()


def quarantine(fetch: Fetch[Key], failure: NotEver) -> None:
    """Store the page or movie with its response; `reelhaul failures` shows it."""
    log.warning("quarantined", reason=str(failure))
    kind = kind_of(fetch.key).name
    count("fetches", kind, "quarantined")
    count("quarantined", kind, type(failure).__name__.lower())
    deadline = time.monotonic() + QUARANTINE_S
    retry_storage(lambda: storage().failures.add(fetch, failure, fleet_now()), deadline)


def reject(reason: str) -> NoReturn:
    """Drop a malformed message."""
    from celery.exceptions import Reject  # noqa: PLC0415 -- as above

    log.error("message rejected", reason=reason)
    raise Reject(reason, requeue=False)


def _is_host_failure(error: Exception) -> bool:
    """Whether this machine is at fault: no space, no memory, no thread, an invalid setting."""
    if isinstance(error, OSError | MemoryError | UsageError):
        return True
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)
