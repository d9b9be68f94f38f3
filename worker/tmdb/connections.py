"""Limits this host's open connections to TMDB, over all of its processes.

Each process gets an equal share. Every process holds a locked file in the run folder: the kernel unlocks it
however the process ends. Connections stay open between requests, so a share counts open ones.
"""

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import structlog

from worker.errors import HostFailure, NoToken, UsageError
from worker.monitoring.run_folder import open_run_folder

log = structlog.get_logger(__name__)

#: Seconds between two counts of the processes.
COUNT_S = 0.25
#: Seconds that a new process waits, for the others to count it and to close their surplus.
SETTLE_S = 2 * COUNT_S


class HostShare:
    """This process' share of the host's `limit` connections; thread-safe.

    `folder` is the run folder, None for the default one. UsageError or HostFailure when it cannot be used.
    """

    def __init__(self, limit: int, folder: Path | None) -> None:
        self._limit, self._folder = limit, folder
        self._own: IO[str] | None = None
        self._settled = 0.0
        self._counted, self._size, self._failure = float("-inf"), 0, ""
        try:
            self._join(len(_members(open_run_folder(folder))))
        except OSError as error:
            raise HostFailure(f"no connections: {error}") from None

    def size(self) -> int:
        """Connections that this process may have open now; 0 while it settles, or without a share.

        HostFailure while the run folder cannot be used. A removed folder is made again.
        """
        now = time.monotonic()
        if now >= self._counted + COUNT_S:
            self._counted = now
            try:
                size, failure = self._count(now), ""
            except (OSError, UsageError) as error:
                size, failure = 0, f"no connections: {error}"
            if failure and failure != self._failure:
                log.warning("run folder cannot be used", reason=failure)
            elif not size and now >= self._settled and self._size:
                log.warning("no connection available", reason="more processes", connections=self._limit)
            self._size, self._failure = size, failure
        if self._failure:
            raise HostFailure(self._failure)
        return self._size

    def leave(self) -> None:
        """Free the share for the other processes."""
        if self._own:
            with suppress(FileNotFoundError):
                Path(self._own.name).unlink()
            self._own.close()
            self._own = None

    def _count(self, now: float) -> int:
        members = sorted(_members(open_run_folder(self._folder)))
        if self._own is None or Path(self._own.name).name not in members:
            # The file or its folder was removed, for example by a cleaner of /tmp.
            self._join(len(members))
            return 0
        if now < self._settled:
            return 0
        share, rest = divmod(self._limit, len(members))
        return share + (members.index(Path(self._own.name).name) < rest)

    def _join(self, others: int) -> None:
        if self._own:
            self._own.close()
        self._own = _locked_file(open_run_folder(self._folder))
        self._settled = time.monotonic() + (SETTLE_S if others else 0.0)


class Connections:
    """Lets `size()` threads hold a connection at once; calls `shrink` when the size has decreased."""

    def __init__(self, size: Callable[[], int], shrink: Callable[[], None]) -> None:
        self._size, self._shrink = size, shrink
        self._busy, self._last, self._failure = 0, 0, ""
        self._freed = threading.Condition()

    @contextmanager
    def hold(self, deadline: float) -> Iterator[None]:
        """Hold one connection; NoToken when none is free until `deadline` (time.monotonic())."""
        with self._freed:
            while self._busy >= self._allowed():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NoToken(self._failure or "no connection in time: all of this host's are in use")
                self._freed.wait(min(left, COUNT_S))
            self._busy += 1
        try:
            yield
        finally:
            with self._freed:
                self._busy -= 1
                self._freed.notify()

    def _allowed(self) -> int:
        try:
            size, self._failure = self._size(), ""
        except HostFailure as failure:
            size, self._failure = 0, str(failure)
        if size < self._last:
            self._shrink()
        self._last = size
        return size


def _locked_file(folder: Path) -> IO[str]:
    while True:
        own = tempfile.NamedTemporaryFile("w", prefix="worker-", dir=folder, delete=False)  # noqa: SIM115 -- held open
        fcntl.flock(own, fcntl.LOCK_EX)
        if Path(own.name).exists():  # no other process removed it before it was locked
            return own
        own.close()


def _members(folder: Path) -> list[str]:
    """Names of the locked files; removes those that no process holds."""
    members = []
    for path in folder.glob("worker-*"):
        with suppress(FileNotFoundError), os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                members.append(path.name)
            else:
                path.unlink()
    return members
