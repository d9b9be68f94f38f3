"""Stops a worker when page after page fails unexpectedly: the fault is then the worker's, not the pages'."""

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

#: Different pages that fail in a row until the worker stops. Fewer may each be at fault themselves.
LIMIT = 5
ADVICE = (
    "page after page failed unexpectedly, so the fault is this worker's: it stops, and messages stay queued."
    " Fix what the tracebacks show, start it again, then `reelhaul failures retry --class unexpected`"
)


class Breaker:
    """Counts unexpected failures in a row over all processes of one worker. Thread-safe.

    Build it in the main process before the fork: pool processes share the count and a file lock, which the
    kernel releases when one is killed. UsageError when no temporary file can be made.
    """

    def __init__(self) -> None:
        self._failures = mmap.mmap(-1, 1)
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
        """Whether the worker is stopping because of failures."""
        return self._failures[0] >= LIMIT

    def succeed(self) -> None:
        """Reset the count, unless the breaker has tripped."""
        if self._failures[0]:  # without the lock: this runs for every page, and the count is mostly 0
            with self._locked():
                if self._failures[0] < LIMIT:
                    self._failures[0] = 0

    def fail(self, page: str, reason: str) -> bool:
        """Count a page that failed unexpectedly; True when the worker stops for it.

        The same page again counts once.
        """
        with self._locked():
            before = self._failures[0]
            if page == self._last or before >= LIMIT:
                return before >= LIMIT
            self._last = page
            self._failures[0] = before + 1
        if before + 1 < LIMIT:
            return False
        log.error(ADVICE, pages=LIMIT, reason=reason)
        with suppress(ProcessLookupError):
            os.kill(self._main, signal.SIGTERM)
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude the other threads and the other processes of the worker."""
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


@cache
def breaker() -> Breaker:
    """This worker's breaker."""
    return Breaker()
