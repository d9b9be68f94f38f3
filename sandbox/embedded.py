"""Base of the embedded servers: a child process with a port on 127.0.0.1 and a folder."""

import errno
import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from sandbox.processes import ChildProcess, SandboxError, spawn

HOST = "127.0.0.1"
#: SecantusDB starts in about a second on an idle machine.
START_TIMEOUT_S = 30.0
#: Another process can take a free port before the server binds it; then another port is tried.
FREE_PORT_ATTEMPTS = 5
PROBE_TIMEOUT_S = 1.0


class EmbeddedServer(ABC):
    """A server on `port` (default: a free one) with its files in `folder` (default: a temporary one).

    After kill(), start() brings it back on the same port with the same files. stop() removes a temporary
    folder.
    """

    name: ClassVar[str]

    def __init__(self, *, port: int | None = None, folder: Path | None = None) -> None:
        #: The TCP port; 0 until the first start() chooses one.
        self.port = port or 0
        self._folder = folder
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None

    @abstractmethod
    def _command(self, port: int, folder: Path) -> list[str]:
        """The command that serves on `port` and keeps its files in `folder`."""

    @abstractmethod
    def _answers(self, child: ChildProcess, port: int) -> bool:
        """Whether `child`, and no other process, serves requests on `port`."""

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The environment variables that make Reelhaul use this server."""

    @property
    def pid(self) -> int:
        """The server's process id; SandboxError when it was not started."""
        return self._started().pid

    @property
    def folder(self) -> Path:
        """The folder with its data and its log."""
        if self._folder is not None:
            return self._folder
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=f"reelhaul-{self.name.lower()}-")
        return Path(self._scratch.name)

    def start(self) -> Self:
        """Start the server and return when it answers.

        Raises SandboxError when the port is in use, or when the server ends or does not answer within
        START_TIMEOUT_S.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        candidates = [self.port] if self.port else [free_port() for _ in range(FREE_PORT_ATTEMPTS)]
        for port in candidates:
            if child := self._try_start(port):
                self._child, self.port = child, port
                return self
        raise SandboxError(
            f"port {candidates[-1]} is in use: stop what listens there, or choose another one for {self.name}"
        )

    def _try_start(self, port: int) -> ChildProcess | None:
        """The running server; None when the port is in use."""
        if not port_is_free(port):
            return None
        child = spawn(self._command(port, self.folder), log_path=self.folder / f"{self.name.lower()}.log")
        try:
            child.wait_until(lambda: self._answers(child, port), START_TIMEOUT_S)
        except SandboxError:
            child.kill()
            if "address already in use" in child.log_text().lower():
                return None
            raise
        return child

    def stop(self, grace_s: float = 10.0) -> None:
        """Stop the server; SIGKILL after `grace_s`, or at once when its folder is temporary and goes too."""
        if self._child is not None:
            self._child.stop(0 if self._scratch else grace_s)
            self._child = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def kill(self) -> None:
        """Send SIGKILL and keep the files, as in a crash."""
        self._started().kill()

    def _started(self) -> ChildProcess:
        if self._child is None:
            raise SandboxError(f"{self.name} was not started")
        return self._child

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether a server could listen on `port`; lingering connections of an earlier server do not matter."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True


def accepts_connections(port: int) -> bool:
    """Whether a server listens on `port`."""
    try:
        socket.create_connection((HOST, port), PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True
