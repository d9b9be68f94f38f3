"""At most so many connections from this host to the API, over all of its processes.

Each process takes an equal share. Who is there is known from locked files in one folder: the kernel
unlocks them however a process ends. Connections are kept open, so a share is counted in open ones.
"""

from __future__ import annotations

import fcntl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import structlog

from worker.errors import NoPermit

log = structlog.get_logger(__name__)

#: Seconds between two looks at who is there.
LOOK_S = 0.25
#: A newcomer waits this long, until the others have looked and given up their surplus.
SETTLE_S = 2 * LOOK_S


class HostShare:
    """This process' part of the `most` connections of the host; safe for threads."""

    def __init__(self, most: int, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._most, self._folder = most, folder
        others = len(_members(folder))
        self._own = _join(folder)
        self._settled = time.monotonic() + (SETTLE_S if others else 0.0)
        self._looked, self._size = float("-inf"), 0

    def size(self) -> int:
        """Connections this process may have open now; 0 while it settles, or when there are too many."""
        now = time.monotonic()
        if now >= self._looked + LOOK_S:
            self._looked = now
            size = self._look() if now >= self._settled else 0
            if not size and now >= self._settled and self._size:
                log.warning("more processes than connections: this one rests", connections=self._most)
            self._size = size
        return self._size

    def leave(self) -> None:
        """Give the share back."""
        with suppress(FileNotFoundError):
            Path(self._own.name).unlink()
        self._own.close()

    def _look(self) -> int:
        members = sorted(_members(self._folder))
        rank = members.index(Path(self._own.name).name)
        whole, rest = divmod(self._most, len(members))
        return whole + (rank < rest)


class Connections:
    """Lets as many threads through at once as the share allows; `shrink` closes what is open beyond it."""

    def __init__(self, size: Callable[[], int], shrink: Callable[[], None]) -> None:
        self._size, self._shrink = size, shrink
        self._busy, self._last = 0, 0
        self._freed = threading.Condition()

    @contextmanager
    def one(self, deadline: float) -> Iterator[None]:
        """Hold one connection; NoPermit when none is free until `deadline` (time.monotonic())."""
        with self._freed:
            while self._busy >= self._allowed():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NoPermit("no connection in time: all of this host's are in use")
                self._freed.wait(min(left, LOOK_S))
            self._busy += 1
        try:
            yield
        finally:
            with self._freed:
                self._busy -= 1
                self._freed.notify()

    def _allowed(self) -> int:
        size = self._size()
        if size < self._last:
            self._shrink()
        self._last = size
        return size


def _join(folder: Path) -> IO[str]:
    while True:
        own = tempfile.NamedTemporaryFile("w", prefix="worker-", dir=folder, delete=False)  # noqa: SIM115 -- held open
        fcntl.flock(own, fcntl.LOCK_EX)
        if Path(own.name).exists():  # nobody took it for abandoned before it was locked
            return own
        own.close()


def _members(folder: Path) -> list[str]:
    """Names of the locked files; those nobody holds any more are removed."""
    members = []
    for path in folder.glob("worker-*"):
        with suppress(FileNotFoundError), path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                members.append(path.name)
            else:
                path.unlink()
    return members
