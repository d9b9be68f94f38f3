"""What a slot does with each kind of trouble while it works on one message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple, NoReturn, TypeVar, overload

import structlog
from celery.exceptions import Reject

from worker.clients import fleet_now, limiter, movies, store
from worker.errors import (
    ApiTrouble,
    Claimed,
    Forbidden,
    HostFault,
    NoPermit,
    NotEver,
    NotNow,
    RateLimited,
    Stopping,
    StoreAway,
    Unexpected,
    UsageError,
)
from worker.keys import MovieKey, PageKey
from worker.monitoring.breaker import breaker
from worker.monitoring.metrics import count, spent
from worker.settings import redacted
from worker.storage.mongo import bounded
from worker.tmdb.client import WHOLE_S
from worker.tmdb.flakiness import Trial

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds a slot waits, for a token or for MongoDB, before its message goes back to the queue; no try begins
#: later.
SLOT_S = 30.0
#: Seconds within which a task has its page stored, or gives its message back: the wait, the last request
#: (12 s), and the last comparison (12 s), which begins at most 2 s after that.
TASK_S = 56.0
#: Seconds more for what goes into quarantine.
GIVE_UP_S = 10.0
#: Seconds that a message is held back when this machine cannot work on it.
HOST_FAULT_S = 2.0
#: Seconds between two looks at what another slot is fetching.
GLANCE_S = 0.5
#: MongoDB has so long for one piece of work before it is tried again, on another connection ...
WORK_S = 15.0
#: ... and so long when no more is left.
LAST_WORK_S = 1.0


class Deadlines(NamedTuple):
    """When a task ends, on time.monotonic(): what it waits for before it has an answer, and all of it."""

    waiting: float
    task: float

    @classmethod
    def from_now(cls) -> Deadlines:
        now = time.monotonic()
        return cls(now + SLOT_S, now + TASK_S)


@overload
def fetch(ask: Callable[[float], T]) -> T: ...
@overload
def fetch(
    ask: Callable[[float], T],
    is_done: Callable[[], bool],
    deadlines: Deadlines,
    key: PageKey | MovieKey,
    append: Iterable[str] = (),
) -> T | None: ...
def fetch(
    ask: Callable[[float], T],
    is_done: Callable[[], bool] | None = None,
    deadlines: Deadlines | None = None,
    key: PageKey | MovieKey | None = None,
    append: Iterable[str] = (),
) -> T | None:
    """What `ask(deadline)` gets from the API; None when, before it gets anything, `is_done`.

    Waits out what is only for now: raises NotNow when that takes too long for a slot, NotEver for what
    belongs into quarantine, Forbidden when the key does not work. `key` is what is asked for, with `append`.
    """
    deadline, end = deadlines or Deadlines.from_now()
    trial = Trial(key, append, end - WHOLE_S)
    while True:
        if is_done and while_away(is_done, deadline):
            return None
        begun = time.monotonic()
        if begun >= deadline:
            raise NoPermit("no time for another try")
        try:
            answer = ask(deadline)
        except RateLimited:
            continue  # the gate has been told; wait there
        except Claimed as claim:
            limiter().rest(min(claim.wait_s, GLANCE_S))
        except ApiTrouble as trouble:
            trial.failed(trouble)
            trial.rest(begun, deadline)
        except NotEver:
            trial.succeeded()
            raise
        else:
            trial.succeeded()
            return answer


def while_away(work: Callable[[], T], deadline: float) -> T:
    """What `work` returns, tried again while MongoDB is away, until `deadline` (then StoreAway).

    MongoDB gets no longer than that for it either.
    """
    pause_s = 0.1
    while True:
        left_s = deadline - time.monotonic()
        try:
            with spent("store"), bounded(min(max(left_s, LAST_WORK_S), WORK_S)):
                return work()
        except StoreAway as trouble:
            log.warning("store away", reason=str(trouble))
            if time.monotonic() + pause_s > deadline:
                raise
        limiter().rest(pause_s)
        pause_s = min(2 * pause_s, 5.0)


@contextmanager
def working_on(key: PageKey | MovieKey, task_id: str | None) -> Iterator[Deadlines]:
    """The block works on one message: NotEver puts `key` into quarantine, NotNow the message back.

    So does what nobody foresaw: the fault of the page, of the machine, or, page after page, of this worker.
    What went into quarantine fails the task, for Flower to show.
    """
    with structlog.contextvars.bound_contextvars(page=key.id, task=task_id), spent("task"):
        try:
            if breaker().tripped:
                raise HostFault("this worker stops")
            with _quarantining(key):
                yield Deadlines.from_now()
        except (NotNow, Forbidden) as trouble:
            if isinstance(trouble, HostFault):
                log.warning("back to the queue", reason=str(trouble))
                _rest(HOST_FAULT_S)
            else:
                log.debug("back to the queue", reason=str(trouble))
            raise Reject(str(trouble), requeue=True) from None


@contextmanager
def _quarantining(key: PageKey | MovieKey) -> Iterator[None]:
    try:
        yield
    except NotEver as trouble:
        give_up(key, trouble)
        raise
    except (NotNow, Forbidden):
        raise
    except Exception as error:
        reason = redacted(f"{type(error).__name__}: {error}")
        if _is_the_machines(error):
            raise HostFault(reason) from None
        if breaker().fail(key.id, reason):
            raise HostFault("this worker stops") from None
        give_up(key, Unexpected(reason))
        raise
    else:
        breaker().succeed()


def _is_the_machines(error: Exception) -> bool:
    """Whether it tells of this machine, not of a page: no room, no memory, no thread, a bad setting."""
    if isinstance(error, OSError | MemoryError | UsageError):
        return True
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def _rest(seconds: float) -> None:
    """A message that goes back at once comes back at once."""
    with suppress(Stopping):
        limiter().rest(seconds)


def refuse(reason: str) -> NoReturn:
    """Drop a message that makes no sense."""
    log.error("message refused", reason=reason)
    raise Reject(reason, requeue=False)


def give_up(key: PageKey | MovieKey, trouble: NotEver) -> None:
    """Into quarantine with it."""
    log.warning("quarantined", reason=str(trouble))
    count("pages", "quarantined")
    count("quarantined", type(trouble).__name__.lower())
    while_away(partial(_quarantine, key, trouble), time.monotonic() + GIVE_UP_S)


def _quarantine(key: PageKey | MovieKey, trouble: NotEver) -> None:
    store().quarantine(key, trouble, fleet_now())
    if isinstance(key, MovieKey):
        movies().drop(key)
