"""At most so many connections from this host to the API, over all of its processes.

Each process takes an equal share. Who is there is known from locked files in the run folder: the kernel
unlocks them however a process ends. Connections are kept open, so a share is counted in open ones.
"""

from __future__ import annotations

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

#: Seconds between two looks at who is there.
LOOK_S = 0.25
#: A newcomer waits this long, until the others have looked and given up their surplus.
SETTLE_S = 2 * LOOK_S


class HostShare:
    """This process' part of the `most` connections of the host; safe for threads.

    `folder` is the run folder, None for the default one; UsageError or HostFailure when it cannot be used.
    """

    def __init__(self, most: int, folder: Path | None) -> None:
        self._most, self._folder = most, folder
        self._own: IO[str] | None = None
        self._settled = 0.0
        self._looked, self._size, self._fault = float("-inf"), 0, ""
        try:
            self._join(len(_members(open_run_folder(folder))))
        except OSError as error:
            raise HostFailure(f"no connections: {error}") from None

    def size(self) -> int:
        """Connections this process may have open now; 0 while it settles, or when there are too many.

        HostFailure while the run folder cannot be used: what a cleaner removed is made again.
        """
        now = time.monotonic()
        if now >= self._looked + LOOK_S:
            self._looked = now
            try:
                size, fault = self._look(now), ""
            except (OSError, UsageError) as error:
                size, fault = 0, f"no connections: {error}"
            if fault and fault != self._fault:
                log.warning("run folder cannot be used", reason=fault)
            elif not size and now >= self._settled and self._size:
                log.warning("more processes than connections: this one rests", connections=self._most)
            self._size, self._fault = size, fault
        if self._fault:
            raise HostFailure(self._fault)
        return self._size

    def leave(self) -> None:
        """Give the share back."""
        if self._own:
            with suppress(FileNotFoundError):
                Path(self._own.name).unlink()
            self._own.close()
            self._own = None

    def _look(self, now: float) -> int:
        members = sorted(_members(open_run_folder(self._folder)))
        if self._own is None or Path(self._own.name).name not in members:
            # Somebody has removed the file or its folder: a cleaner of /tmp, say.
            self._join(len(members))
            return 0
        if now < self._settled:
            return 0
        rank = members.index(Path(self._own.name).name)
        whole, rest = divmod(self._most, len(members))
        return whole + (rank < rest)

    def _join(self, others: int) -> None:
        if self._own:
            self._own.close()
        self._own = _locked_file(open_run_folder(self._folder))
        self._settled = time.monotonic() + (SETTLE_S if others else 0.0)


class Connections:
    """Lets as many threads through at once as the share allows; `shrink` closes what is open beyond it."""

    def __init__(self, size: Callable[[], int], shrink: Callable[[], None]) -> None:
        self._size, self._shrink = size, shrink
        self._busy, self._last, self._fault = 0, 0, ""
        self._freed = threading.Condition()

    @contextmanager
    def one(self, deadline: float) -> Iterator[None]:
        """Hold one connection; NoToken when none is free until `deadline` (time.monotonic())."""
        with self._freed:
            while self._busy >= self._allowed():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NoToken(self._fault or "no connection in time: all of this host's are in use")
                self._freed.wait(min(left, LOOK_S))
            self._busy += 1
        try:
            yield
        finally:
            with self._freed:
                self._busy -= 1
                self._freed.notify()

    def _allowed(self) -> int:
        try:
            size, self._fault = self._size(), ""
        except HostFailure as fault:
            size, self._fault = 0, str(fault)
        if size < self._last:
            self._shrink()
        self._last = size
        return size


def _locked_file(folder: Path) -> IO[str]:
    while True:
        own = tempfile.NamedTemporaryFile("w", prefix="worker-", dir=folder, delete=False)  # noqa: SIM115 -- held open
        fcntl.flock(own, fcntl.LOCK_EX)
        if Path(own.name).exists():  # nobody took it for abandoned before it was locked
            return own
        own.close()


def _members(folder: Path) -> list[str]:
    """PageLabels of the locked files; those nobody holds any more are removed."""
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
