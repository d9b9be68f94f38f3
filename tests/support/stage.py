"""A fleet for a test: emulated TMDB, real workers and the real command line, on the test's own databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pymongo
import requests

from sandbox.processes import ChildProcess, spawn
from sandbox.servers import EmulatorProcess
from tests.support.command import run_command
from worker.keys import Window

#: PageLabels that the project reads; a test's processes see only what the test sets.
OURS = ("TMDB_", "REDIS_URL", "MONGO_URL", "REELHAUL_")
#: How long a hang may last; no test decides anything by it. Short where tests are meant to fail.
PATIENCE_S = float(os.environ.get("TEST_PATIENCE_S", "45"))
REELHAUL = "from producer.cli.main import main; main()"
SEND = """
import json, sys
from worker.keys import PageKey
from worker.tasks import enqueue_pages
for queue, keys in json.load(sys.stdin).items():
    enqueue_pages([PageKey(*key) for key in keys], 0, queue)
"""


class Stage:
    """Starts what a test asks for, and ends all of it."""

    def __init__(self, folder: Path, redis_url: str, mongo_url: str) -> None:
        self.folder, self.redis_url, self.mongo_url = folder, redis_url, mongo_url
        self.environment = {
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
            "COLUMNS": "200",
        }
        #: How long a command may take.
        self.patience_s = 2 * PATIENCE_S
        self._started = ExitStack()
        self.children: list[ChildProcess] = []
        self.emulators: list[EmulatorProcess] = []
        # Closing says goodbye to a server that may be gone, and looks for it as long as this.
        self._mongo: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            mongo_url, tz_aware=True, serverSelectionTimeoutMS=3_000
        )
        self._started.callback(self._mongo.close)
        self.database = self._mongo.get_default_database()

    def emulator(self, *options: str, port: int | None = None) -> EmulatorProcess:
        """An emulated TMDB, where the fleet will ask from now on."""
        server = self._started.enter_context(EmulatorProcess(*options, port=port))
        self.environment["TMDB_BASE_URL"] = server.base_url
        self.emulators.append(server)
        return server

    def worker(self, *options: str, module: str = "worker.app") -> ChildProcess:
        """A worker process; it consumes once it has reached Redis."""
        quick = ("--without-gossip", "--without-mingle", "-n", f"w{len(self.children)}@%h")
        return self.start(sys.executable, "-m", "celery", "-A", module, "worker", *quick, *options)

    def begin(self, *arguments: str) -> ChildProcess:
        """`reelhaul ARGUMENTS`, without waiting for it."""
        return self.start(sys.executable, "-c", REELHAUL, *arguments)

    def start(self, *argv: str) -> ChildProcess:
        child = spawn(argv, env=self.environment, log_path=self.folder / f"{len(self.children)}.log")
        self.children.append(child)
        return child

    def reelhaul(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """`reelhaul ARGUMENTS` until it ends, away from any .env, its environment changed by `changes`."""
        return run_command(arguments, {**self.environment, **changes}, self.folder, self.patience_s)

    def send(self, **lanes: Iterable[tuple[int, str, int]]) -> None:
        """Enqueue messages as the producer does: page keys by lane."""
        subprocess.run(
            [sys.executable, "-c", SEND],
            env=self.environment,
            input=json.dumps({lane: list(keys) for lane, keys in lanes.items()}),
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )

    def kill_workers(self) -> None:
        for child in self.children:
            child.kill()

    def close(self) -> None:
        """End all: workers at once, then servers."""
        self.kill_workers()
        self._started.close()

    def stored_pages(self) -> dict[str, list[int]]:
        """Movie ids by page id."""
        return {mark["_id"]: mark["movie_ids"] for mark in self.database["pages"].find()}

    def stored_movies(self) -> dict[int, dict[str, Any]]:
        """Raw movies by id."""
        movies = {movie.pop("_id"): movie for movie in self.database["movies"].find()}
        for movie in movies.values():
            del movie["_meta"]
        return movies

    def progress(self) -> dict[str, Any]:
        """The latest backfill as `reelhaul status --json` tells it."""
        told = self.reelhaul("status", "--json")
        assert told.returncode == 0, told.stderr
        latest: dict[str, Any] = json.loads(told.stdout)[0]
        return latest


def catalogue(server: EmulatorProcess) -> dict[int, dict[str, Any]]:
    """What the emulator serves, by id."""
    address = f"http://127.0.0.1:{server.port}/_emulator/movies"
    lines = requests.get(address, timeout=PATIENCE_S).content.splitlines()
    return {movie["id"]: movie for movie in map(json.loads, lines)}


def expected_cell(movies: dict[int, dict[str, Any]], genre_id: int, year: int) -> set[int]:
    """Ids of the movies that belong into a cell."""
    return {
        id_
        for id_, movie in movies.items()
        if genre_id in movie["genre_ids"] and movie["release_date"].startswith(f"{year}-")
    }


def page_requests(server: EmulatorProcess) -> Counter[str]:
    """How often each page of movies was asked for, by its id."""
    return Counter(map(page_id, (row[4] for row in server.log() if row[3] == "discover")))


def page_id(logged: str) -> str:
    """The id of a page that the emulator names by its days."""
    genre_id, window, number = logged.split(":")
    return f"{genre_id}:{Window.parse(window)}:{number}"


def marked_processes(scratch: Path) -> list[int]:
    """Pids of living processes whose TMPDIR is `scratch`. Needs /proc: elsewhere none is found."""
    mark, found = f"TMPDIR={scratch}".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


def wait_for(
    is_so: Callable[[], bool], *, watching: Iterable[ChildProcess] = (), patience_s: float = PATIENCE_S
) -> None:
    """Return when it is so; fail when it is not after `patience_s`, or a watched process ended."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        for child in watching:
            assert child.running, f"{child} has ended:\n{child.log_tail()}"
        assert time.monotonic() < deadline, "\n".join(child.log_tail() for child in watching)
        time.sleep(0.05)
