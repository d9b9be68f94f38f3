"""What a slot does with each kind of trouble while it works on one message."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn, TypeVar, overload

import structlog
from celery.exceptions import Reject

from worker.bootstrap import fleet_now, limiter, movies, store
from worker.breaker import breaker
from worker.errors import (
    ApiTrouble,
    Claimed,
    Forbidden,
    HostFault,
    NoPermit,
    NotEver,
    NotNow,
    Poison,
    RateLimited,
    Stopping,
    StoreAway,
    Unexpected,
    UsageError,
)
from worker.metrics import count, spent
from worker.pages import MovieKey, PageKey
from worker.settings import redacted

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds a slot waits for a token before its message goes back to the queue.
SLOT_S = 30.0
#: Seconds within which a task ends, one way or the other: the wait, one request (12 s) and its storing.
TASK_S = 48.0
#: What fails this often while the API is well is poison.
TRIES = 5
#: Seconds that a message is held back when this machine cannot work on it.
HOST_FAULT_S = 2.0
#: Seconds between two looks at what another slot is fetching.
GLANCE_S = 0.5


@overload
def fetch(ask: Callable[[float], T]) -> T: ...
@overload
def fetch(ask: Callable[[float], T], is_done: Callable[[], bool]) -> T | None: ...
def fetch(ask: Callable[[float], T], is_done: Callable[[], bool] | None = None) -> T | None:
    """What `ask(deadline)` gets from the API; None when, before it gets anything, `is_done`.

    Waits out what is only for now: raises NotNow when that takes too long for a slot, NotEver for what
    belongs into quarantine, Forbidden when the key does not work.
    """
    deadline, tries = time.monotonic() + SLOT_S, 0
    while True:
        if is_done and while_away(is_done, deadline):
            return None
        try:
            answer = ask(deadline)
        except RateLimited:
            continue  # the gate has been told; wait there
        except Claimed as claim:
            if time.monotonic() > deadline:
                raise NoPermit("claimed elsewhere for too long") from None
            limiter().rest(min(claim.wait_s, GLANCE_S))
        except ApiTrouble as trouble:
            tries += 1
            log.warning("trouble", reason=str(trouble), tries=tries)
            if tries >= TRIES:
                if _lately.is_flaky():
                    raise NotNow(f"the API fails now and then: {trouble}") from None
                raise Poison(f"{tries} tries: {trouble}", trouble.response) from None
        else:
            _lately.succeeded(retried=tries > 0)
            return answer


class Lately:
    """How this process' requests went of late; safe for threads.

    While the API fails half of all requests, one page of 32 meets five failures in a row that are not its
    fault. So what succeeded only after failing tells of the API; what never succeeds tells of itself.
    """

    def __init__(self, length: int = 50, life_s: float = 60.0, flaky: float = 0.2) -> None:
        self._successes: deque[tuple[float, bool]] = deque(maxlen=length)
        self._life_s, self._flaky = life_s, flaky

    def succeeded(self, *, retried: bool) -> None:
        self._successes.append((time.monotonic(), retried))

    def is_flaky(self) -> bool:
        """Whether a fifth of what succeeded, or more, had failed before."""
        since = time.monotonic() - self._life_s
        retried = [again for at, again in tuple(self._successes) if at >= since]
        return sum(retried) >= max(1, self._flaky * len(retried))


_lately = Lately()


def while_away(work: Callable[[], T], deadline: float) -> T:
    """What `work` returns, tried again while MongoDB is away, until `deadline` (then StoreAway)."""
    pause_s = 0.1
    while True:
        try:
            with spent("store"):
                return work()
        except StoreAway as trouble:
            log.warning("store away", reason=str(trouble))
            if time.monotonic() + pause_s > deadline:
                raise
        limiter().rest(pause_s)
        pause_s = min(2 * pause_s, 5.0)


@contextmanager
def working_on(key: PageKey | MovieKey, task_id: str | None) -> Iterator[None]:
    """The block works on one message: NotEver puts `key` into quarantine, NotNow the message back.

    So does what nobody foresaw: the fault of the page, of the machine, or, page after page, of this worker.
    What went into quarantine fails the task, for Flower to show.
    """
    with structlog.contextvars.bound_contextvars(page=key.id, task=task_id), spent("task"):
        try:
            if breaker().tripped:
                raise HostFault("this worker stops")
            with _quarantining(key):
                yield
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
    while_away(partial(_quarantine, key, trouble), time.monotonic() + SLOT_S)


def _quarantine(key: PageKey | MovieKey, trouble: NotEver) -> None:
    store().quarantine(key, trouble, fleet_now())
    if isinstance(key, MovieKey):
        movies().drop(key)
