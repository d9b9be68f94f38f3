"""A fleet for one test, on the test's own databases: its commands, its messages, and what it has stored."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymongo

from sandbox.fleet import REELHAUL, Fleet
from sandbox.processes import ChildProcess
from sandbox.servers import EmulatorProcess
from tests.support.command import run_command

#: Prefixes of the variables that Reelhaul reads; a test's processes see only those that the test sets.
OURS = ("TMDB_", "REDIS_URL", "MONGO_URL", "REELHAUL_")
#: How long a test waits for what should happen; no test measures by it. Short where tests are meant to fail.
PATIENCE_S = float(os.environ.get("TEST_PATIENCE_S", "45"))
ENQUEUE = """
import json, sys
from worker.keys import Fetch, PageKey
from worker.tasks import enqueue
[request] = sys.argv[1:]
for queue, keys in json.load(sys.stdin).items():
    enqueue([Fetch(PageKey(*key), request=request) for key in keys], queue)
"""


class Stage(Fleet):
    """A fleet on a Redis and a MongoDB that exist already; `close` ends everything that it started."""

    def __init__(self, folder: Path, redis_url: str, mongo_url: str) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
            "REDIS_URL": redis_url,
            "MONGO_URL": mongo_url,
            "TMDB_TOKEN": "a-token-of-nobody",
            "TMDB_API_KEY": "",
            "REELHAUL_RATE": "500",
            "REELHAUL_CAPACITY": "50",
            "REELHAUL_CONNECTIONS": "200",
            "REELHAUL_RUN_FOLDER": str(folder / "run"),
            "REELHAUL_CONCURRENCY": "8",
            "REELHAUL_TIMEOUT_S": "2",
            "REELHAUL_TICK_S": "2",
            "COLUMNS": "200",
        }
        super().__init__(environment, folder)
        self.redis_url, self.mongo_url = redis_url, mongo_url
        #: How long a command may take.
        self.patience_s = 2 * PATIENCE_S
        # Closing a client of a server that is gone takes this long.
        self._mongo: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            mongo_url, tz_aware=True, serverSelectionTimeoutMS=3_000
        )
        self.database = self._mongo.get_default_database()

    @property
    def children(self) -> list[ChildProcess]:
        return self.processes

    @property
    def emulators(self) -> list[EmulatorProcess]:
        return [server for server in self.servers if isinstance(server, EmulatorProcess)]

    def emulator(self, *options: str, port: int | None = None) -> EmulatorProcess:
        """Start an emulated TMDB for the processes that are started later."""
        return self.serve(EmulatorProcess(*options, port=port))

    def begin(self, *arguments: str) -> ChildProcess:
        """Start `reelhaul ARGUMENTS` without waiting for its end."""
        return self.start(*REELHAUL, *arguments)

    def reelhaul(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run `reelhaul ARGUMENTS` to its end, away from any .env; `changes` are added to its environment."""
        return run_command(arguments, {**self.environment, **changes}, self.folder, self.patience_s)

    def send(self, request: str = "", **queues: Iterable[tuple[int, str, int]]) -> None:
        """Enqueue pages as the producer does for the request with that id: page keys by queue."""
        send(self.environment, request, **queues)

    def kill_workers(self) -> None:
        for process in self.processes:
            process.kill()

    def close(self) -> None:
        self.kill()
        self._mongo.close()

    def stored_pages(self) -> dict[str, list[int]]:
        """Movie ids by page id."""
        pages = self.database["pages"].find({"movie_ids": {"$exists": True}})
        return {record["_id"]: record["movie_ids"] for record in pages}

    def stored_movies(self) -> dict[int, dict[str, Any]]:
        """Raw movies by id."""
        movies = {movie.pop("_id"): movie for movie in self.database["movies"].find()}
        for movie in movies.values():
            del movie["_meta"]
        return movies

    def use_schedule(self, toml: str) -> None:
        """Write the schedule file of the processes that are started later."""
        path = self.folder / "schedule.toml"
        path.write_text(toml)
        self.environment["REELHAUL_SCHEDULE"] = str(path)

    def schedule_outcome(self, entry: str) -> str:
        """What `reelhaul schedule --json` says of the entry's last run; "" while it runs or before it ran."""
        rows = json.loads(self.reelhaul("schedule", "--json").stdout)
        [outcome] = [row["outcome"] for row in rows if row["schedule_entry"] == entry]
        return "" if outcome.startswith("running") else str(outcome)

    def progress(self) -> dict[str, Any]:
        """The latest backfill in `reelhaul status --json`."""
        ended = self.reelhaul("status", "--json")
        assert ended.returncode == 0, ended.stderr
        latest: dict[str, Any] = json.loads(ended.stdout)[0]
        return latest


def send(environment: Mapping[str, str], request: str = "", **queues: Iterable[tuple[int, str, int]]) -> None:
    """Enqueue pages as the producer does for the request with that id: page keys by queue."""
    subprocess.run(
        [sys.executable, "-c", ENQUEUE, request],
        env=environment,
        input=json.dumps({queue: list(keys) for queue, keys in queues.items()}),
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )


def marked_processes(scratch: Path) -> list[int]:
    """Pids of running processes whose TMPDIR is `scratch`. Needs /proc: without it none is found."""
    mark, found = f"TMPDIR={scratch}".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


def wait_for(
    is_so: Callable[[], bool], *, watching: Iterable[ChildProcess] = (), patience_s: float = PATIENCE_S
) -> None:
    """Return when it is so; fail after `patience_s`, or when a watched process has ended."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        for child in watching:
            assert child.running, f"{child} has ended:\n{child.log_tail()}"
        assert time.monotonic() < deadline, "\n".join(child.log_tail() for child in watching)
        time.sleep(0.05)
