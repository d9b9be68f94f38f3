"""Stops a worker that fails on one page after the other: then the fault is the worker's, not the pages'."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import structlog

from worker.errors import UsageError

log = structlog.get_logger(__name__)

#: Different pages in a row, none done in between. Fewer may each be at fault; so many are not.
LIMIT = 5
ADVICE = (
    "page after page met an unexpected fault, so it is this worker's: it stops, and messages stay queued."
    " Mend what the tracebacks say, start it again, then `reelhaul failures retry --class unexpected`"
)


class Breaker:
    """Counts unexpected failures in a row, over all processes of one worker; safe for threads.

    To be built in the main process before it forks pool processes: they share the count, and a lock on a
    file, which the kernel takes back from one that is killed. UsageError when no such file can be made.
    """

    def __init__(self) -> None:
        self._row = mmap.mmap(-1, 1)
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- held open for its lock
        except OSError as error:
            raise UsageError(
                f"no temporary file can be made: {error.strerror}; make room, or set TMPDIR"
            ) from None
        self._main = os.getpid()
        self._lock = threading.Lock()
        self._last = ""

    @property
    def tripped(self) -> bool:
        """Whether the worker is stopping for it."""
        return self._row[0] >= LIMIT

    def succeed(self) -> None:
        """A page was done. What has tripped stays so."""
        if self._row[0]:  # hardly ever: what is done for each page is only this look
            with self._alone():
                if self._row[0] < LIMIT:
                    self._row[0] = 0

    def fail(self, page: str, reason: str) -> bool:
        """A page met a fault that nobody foresaw; whether that is the worker's, which stops then.

        The same page again tells nothing new.
        """
        with self._alone():
            before = self._row[0]
            if page == self._last or before >= LIMIT:
                return before >= LIMIT
            self._last = page
            self._row[0] = before + 1
        if before + 1 < LIMIT:
            return False
        log.error(ADVICE, pages=LIMIT, reason=reason)
        with suppress(ProcessLookupError):
            os.kill(self._main, signal.SIGTERM)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The block is run by one thread of one process at a time."""
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


@cache
def breaker() -> Breaker:
    """This worker's."""
    return Breaker()
