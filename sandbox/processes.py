"""Child processes that end with their parent, even when the parent is killed with SIGKILL."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LIFELINE = Path(__file__).with_name("lifeline.py")

#: Seconds between SIGTERM and SIGKILL for a child whose parent is gone.
ORPHAN_GRACE_S = 5.0
#: Lines of the log in an error's text.
LOG_TAIL_LINES = 15
POLL_S = 0.02


class SandboxError(RuntimeError):
    """A process could not be started or has ended; the message says which one and what to do."""


class ChildProcess:
    """A running command. `pid` is the command's own, so that signals reach it and nothing else."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        argv: Sequence[str],
        log_path: Path,
        log_start: int,
        lifeline_fd: int,
    ) -> None:
        self._popen = popen
        self._argv = tuple(argv)
        self._lifeline_fd: int | None = lifeline_fd
        self._log_start = log_start
        self.log_path = log_path
        self.pid = popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def send(self, signum: signal.Signals) -> None:
        """Send a signal; do nothing when the process has ended already."""
        self._popen.send_signal(signum)

    def wait(self, timeout_s: float) -> int:
        """The exit status, negative for a signal, once the process has ended by itself.

        Raises SandboxError when it is still running after `timeout_s`.
        """
        try:
            status = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"{self} still runs after {timeout_s:g} s") from None
        self._close_lifeline()
        return status

    def stop(self, grace_s: float = 10.0) -> int:
        """Send SIGTERM, and SIGKILL after `grace_s`; return the exit status. Harmless once it has ended."""
        self.send(signal.SIGTERM)
        try:
            self._popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            return self.kill()
        self._close_lifeline()
        return self._popen.returncode

    def kill(self) -> int:
        """Send SIGKILL; return the exit status."""
        self.send(signal.SIGKILL)
        status = self._popen.wait()
        self._close_lifeline()
        return status

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Poll until `ready` is true; SandboxError when the process ends first, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise SandboxError(f"{self} ended with status {self._popen.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise SandboxError(f"{self} was not ready after {timeout_s:g} s:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def log_text(self) -> str:
        """What this process has written so far to standard output and standard error."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", errors="replace")

    def log_tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-LOG_TAIL_LINES:])

    def _close_lifeline(self) -> None:
        """Close the lifeline of an ended process, which ends its watcher."""
        if self._lifeline_fd is not None:
            os.close(self._lifeline_fd)
            self._lifeline_fd = None

    def __str__(self) -> str:
        return f"`{shlex.join(self._argv)}`"


def spawn(argv: Sequence[str], *, env: Mapping[str, str] | None = None, log_path: Path) -> ChildProcess:
    """Start `argv`, without waiting, so that it ends with this process.

    Its output is appended to `log_path`. It leads a session of its own: Ctrl-C in the terminal reaches only
    the parent, which stops its children in order. Without `env` it inherits this process's environment.
    """
    read_fd, write_fd = os.pipe()
    try:
        with log_path.open("ab") as log:
            log_start = log.tell()
            popen = subprocess.Popen(  # noqa: S603 -- the caller's own command, without a shell
                [sys.executable, "-I", "-S", str(LIFELINE), str(read_fd), str(ORPHAN_GRACE_S), *argv],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(read_fd,),
                start_new_session=True,
            )
    except OSError:
        os.close(write_fd)
        raise
    finally:
        os.close(read_fd)
    return ChildProcess(popen, argv, log_path, log_start, write_fd)
