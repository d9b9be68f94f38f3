"""A fleet with servers of its own that kill tests hurt, and a plan by which they judge the end.

A `Rig` is one run: `backfill()` enqueues the plan through the command line, the test strikes what is public
(`rig.redis`, `rig.mongo`, `rig.emulator`, `rig.workers`), `completes()` waits until nothing is missing and
compares the store with the emulator's catalogue, page by page and movie by movie.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sandbox.fleet import READY_S, REELHAUL, Fleet
from sandbox.processes import ChildProcess
from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from tests.chaos.outcome import Outcome
from tests.support.comparison import Comparison, Document, catalogue, compare, expected_cells, expected_pages
from tests.support.redis_faults import DelayingProxy
from tests.support.stage import send
from worker.windows import Window

#: Celery's prefix of every key in Redis (worker.app).
PREFIX = "{reelhaul}:"
#: Seconds between two looks at what a run waits for.
LOOK_S = 0.2
#: The promise: the fleet has recovered two minutes after the end of a fault.
RECOVERY_S = 120.0
#: Requests above the plan, spoiled responses not counted: at most this share of it.
EXTRA = 0.05
GENRES = {"Drama": 18, "Comedy": 35}
#: A credential to look for wherever it does not belong.
TOKEN = "canary-0b7e6d1f-token"  # noqa: S105 -- made up
CELERY = (sys.executable, "-m", "celery", "-A", "worker.app")


class ChaosMongo(EmbeddedMongo):
    """The embedded server with MongoDB's own failpoints: errors, delays and cuts, command by command."""

    def _command(self, port: int, folder: Path) -> list[str]:
        return [*super()._command(port, folder), "--enable-test-commands"]

    def fail(self, *commands: str, **how: Any) -> None:
        """Until `heal`, strike these commands of Reelhaul's connections: errorCode, blockTimeMS, ..."""
        data = {"failCommands": list(commands), "appName": "reelhaul", **how}
        self._configure({"mode": "alwaysOn", "data": data})

    def heal(self) -> None:
        """End the faults."""
        self._configure({"mode": "off"})

    def _configure(self, point: Mapping[str, Any]) -> None:
        client: pymongo.MongoClient[Document]
        with pymongo.MongoClient(self.url) as client:
            client.admin.command({"configureFailPoint": "failCommand", **point})


class Rig(Fleet):
    """Servers, workers and beat of one run, and its plan; leaving the `with` block kills all of them."""

    def __init__(
        self,
        folder: Path,
        *,
        movies: int = 12_000,
        years: tuple[int, int] = (2010, 2025),
        rate: int = 60,
        concurrency: int = 8,
        latency_ms: int = 30,
        emulator: Sequence[str] = (),
        redis: type[EmbeddedRedis] = EmbeddedRedis,
        redis_password: str = "",
        proxied: bool = False,
        **environment: str,
    ) -> None:
        """`proxied` puts `self.proxy` between the fleet and Redis; `environment` is added to the fleet's."""
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        super().__init__({**inherited, "HOME": str(folder), "TMDB_TOKEN": TOKEN}, folder)
        self.years, self._redis_password = years, redis_password
        # The emulator admits twice the fleet's rate: other tests judge how evenly the fleet requests.
        limit = ("--rate", str(rate), "--capacity", str(2 * rate))
        catalog = ("--movies", str(movies), "--latency-ms", str(latency_ms))
        self.redis = redis(folder=folder / "redis")
        self.mongo = ChaosMongo(folder=folder / "mongo")
        self.emulator = EmulatorProcess(*limit, *catalog, *emulator, folder=folder / "emulator")
        # The lost-message sweep alone: other entries would request pages that are not in the plan.
        schedule = folder / "schedule.toml"
        schedule.write_text("", encoding="utf-8")
        self._settings = {
            "REELHAUL_RATE": str(rate),
            "REELHAUL_CONCURRENCY": str(concurrency),
            "REELHAUL_TICK_S": "4",
            "REELHAUL_RUN_FOLDER": str(folder / "run"),
            "REELHAUL_SCHEDULE": str(schedule),
            **environment,
        }
        self._proxied = proxied
        self._stack = ExitStack()
        self._fault_over_s: float | None = None
        self._cut_off = 0
        self.workers: list[ChildProcess] = []
        self.recovery_s: float | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._stack.close()

    def _start(self) -> None:
        for server in (self.redis, self.mongo, self.emulator):
            self.serve(server)
        redis_url = self.redis.url
        if self._redis_password:
            with Redis.from_url(redis_url) as redis:
                redis.config_set("requirepass", self._redis_password)
            redis_url = redis_url.replace("://", f"://:{self._redis_password}@")
        if self._proxied:
            self.proxy = self._stack.enter_context(DelayingProxy(redis_url))
            redis_url = self.proxy.url
        self.environment |= {"REDIS_URL": redis_url, **self._settings}
        self.plan()
        client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            self.mongo.url, serverSelectionTimeoutMS=1_000, socketTimeoutMS=5_000, tz_aware=True
        )
        self._stack.callback(client.close)
        self.database: Database[Document] = client["reelhaul"]
        # Today's refresh counts as done: its requests would not be in the plan.
        self.database.schedule.insert_one({"_id": "refresh", "claimed_at": datetime.now(UTC)})

    # Processes

    def start_workers(self, *options: Sequence[str], **environment: str) -> list[ChildProcess]:
        """Start a worker for each line of options, two by default, and return when they consume."""
        started = [self.worker(*line, **environment) for line in options or ((), ())]
        for worker in started:
            worker.wait_until(lambda worker=worker: " ready." in worker.log_text(), READY_S)  # type: ignore[misc]
        self.workers += started
        return started

    def kill_workers(self, *workers: ChildProcess) -> None:
        """Send SIGKILL to all of them at once; other workers follow."""
        for worker in workers:
            worker.send(signal.SIGKILL)
        for worker in workers:
            worker.kill()
            self.forget(worker)
        # Pages that were requested and not stored died with them and must be requested again.
        requested = {row[4] for row in self.emulator.log() if row[3] == "discover"}
        self._cut_off += len(requested - set(map(_log_key, self._stored_ids())))

    def forget(self, worker: ChildProcess) -> None:
        """Expect the worker's end."""
        self.workers.remove(worker)
        self.processes.remove(worker)

    # Commands

    def backfill(self) -> None:
        """Enqueue the plan, as a user does."""
        self.reelhaul("backfill", *self.request(), "--detach")

    def request(self) -> list[str]:
        """The plan as options."""
        first, last = self.years
        return ["--genres", ",".join(GENRES), "--years", f"{first}..{last}"]

    def reelhaul(self, *arguments: str) -> str:
        """Run a command to its end; its output."""
        return self._run([*REELHAUL, *arguments])

    def reelhaul_fails(self, *arguments: str, **environment: str) -> str:
        """Run a command that must fail with exit code 2 in another environment; its error text."""
        ended = self._ended([*REELHAUL, *arguments], environment)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr

    def celery(self, *arguments: str) -> str:
        """Run one of Celery's commands to its end; its output."""
        return self._run([*CELERY, *arguments])

    def celery_pongs(self) -> int:
        """How many workers answer Celery's ping."""
        return self._ended([*CELERY, "inspect", "ping", "--timeout", "2"]).stdout.count("pong")

    def send(self, **queues: Iterable[tuple[int, str, int]]) -> None:
        """Enqueue pages as the producer does: page keys by queue."""
        send(self.environment, "", **queues)

    def _run(self, command: Sequence[str]) -> str:
        ended = self._ended(command)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def _ended(
        self, command: Sequence[str], changes: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **(changes or {})}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    # What a run waits for

    def until(self, what: str, is_true: Callable[[], bool], timeout_s: float = RECOVERY_S) -> None:
        """Wait until it is true; fail after `timeout_s`, or when a process has ended by itself."""
        deadline = time.monotonic() + timeout_s
        while not is_true():
            self.check()
            assert time.monotonic() < deadline, f"after {timeout_s:g} s not yet: {what}\n{self.situation()}"
            time.sleep(LOOK_S)

    def until_stored(self, share: float) -> None:
        """Wait until this share of the plan is stored."""
        self.until(f"{share:.0%} stored", lambda: self.stored() >= share * len(self.pages))

    def until_complete(self, within_s: float = RECOVERY_S) -> None:
        """Wait until every planned page is stored or in quarantine."""

        def nothing_is_missing() -> bool:
            try:
                failures = self.database.failures.count_documents({})
            except PyMongoError:
                return False
            return self.stored() + failures >= len(self.pages)

        self.until("complete", nothing_is_missing, within_s)
        if self._fault_over_s is not None:
            self.recovery_s = time.monotonic() - self._fault_over_s

    def fault_is_over(self) -> None:
        """Measure the time to recover from now on."""
        self._fault_over_s = time.monotonic()

    def begin_anew(self) -> None:
        """Delete what is stored, requested and counted; the processes go on."""
        self.emulator.configure(faults=[])
        self.until("all messages done", self.is_idle)
        for name in ("pages", "movies", "failures", "requests"):
            self.database[name].delete_many({})
        with self.redis_client() as client:
            client.delete("{reelhaul}:limiter")
        self.emulator.reset()

    def completes(
        self,
        *,
        quarantined: int = 0,
        within_s: float = RECOVERY_S,
        probing: bool = False,
        again: int = 0,
    ) -> None:
        """Wait until nothing is missing, then check every promise.

        `probing` allows requests beyond the plan that only probe the API, `again` second requests for that
        many pages.
        """
        self.until_complete(within_s)
        found = self.compare()
        assert len(found.quarantined) == quarantined, found.quarantined
        assert found.missing == sorted(found.quarantined)
        assert found.doubled == []
        assert found.wrong == []
        allowed = max(EXTRA * len(self.pages), self._cut_off, again)
        # A page that fails three times is compared with three others, which may be in the plan as well.
        extra = self.extra - (self.unplanned + 3 if probing else 0)
        assert extra <= allowed, f"{extra} requests above {len(self.pages)}, {self._cut_off} cut off"
        self.check()

    # What the end is judged by

    def plan(self) -> None:
        """Plan what the emulator serves now."""
        first, last = self.years
        self.catalogue = catalogue(self.emulator)
        self.cells = expected_cells(self.catalogue, GENRES.values(), range(first, last + 1))
        self.pages = expected_pages(self.cells)

    def compare(self) -> Comparison:
        """Compare store and catalogue, and count requests above the plan."""
        #: Requests for pages that had been fetched in good order or are not planned, and the latter alone.
        self.extra, self.unplanned = self._extra_requests()
        self.found = compare(self.database, self.catalogue, self.cells)
        return self.found

    def _extra_requests(self) -> tuple[int, int]:
        good = Counter(
            key
            for _, _, status, kind, key, _, fault in self.emulator.log()
            if kind == "discover" and status == 200 and fault is None
        )
        planned = set(map(_log_key, self.pages))
        unplanned = sum(times for key, times in good.items() if key not in planned)
        return good.total() - len(good.keys() & planned), unplanned

    def outcome(self, fault: str) -> Outcome:
        """The row of a run that ended well."""
        found = self.found
        lost = len(set(found.missing) - set(found.quarantined))
        return Outcome(fault, len(self.pages), lost, len(found.doubled), self.extra, self.recovery_s)

    def stored(self, since: datetime | None = None) -> int:
        """Pages stored so far, fetched at or after `since`; -1 while MongoDB does not answer."""
        try:
            return self.database.pages.count_documents({"fetched_at": {"$gte": since}} if since else {})
        except PyMongoError:
            return -1

    def queue_lengths(self) -> dict[str, int]:
        """Messages by queue, and those with a worker; empty while Redis does not answer."""
        with self.redis_client() as client:
            try:
                queues = ("refresh", "refresh_cells", "pages", "cells", "movies")
                lengths = {queue: int(client.llen(f"{PREFIX}{queue}")) for queue in queues}
                return {**lengths, "unacked": int(client.hlen(f"{PREFIX}unacked"))}
            except RedisError:
                return {}

    def is_idle(self) -> bool:
        """Whether no message waits and none is with a worker."""
        lengths = self.queue_lengths()
        return bool(lengths) and not any(lengths.values())

    def redis_client(self) -> Redis:
        """A client to be closed by the caller."""
        return Redis.from_url(self.environment["REDIS_URL"], socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def situation(self) -> str:
        """A failed run in a few lines: what is missing, the queues, the workers' logs."""
        missing: list[str] = []
        with suppress(PyMongoError):
            missing = sorted(self.pages - self._stored_ids())
        lines = [f"missing {len(missing)}: {' '.join(missing[:10])}", f"queues {self.queue_lengths()}"]
        lines += [f"{worker}\n{worker.log_tail()}" for worker in self.workers]
        return "\n".join(lines)

    def _stored_ids(self) -> set[str]:
        return {page["_id"] for page in self.database.pages.find({}, {"_id": 1})}


def _log_key(page: str) -> str:
    """A page as the emulator's log names it, by its days."""
    genre_id, window, number = page.split(":")
    days = Window.parse(window)
    return f"{genre_id}:{days.first}/{days.last}:{number}"


def children(pid: int) -> list[int]:
    """The pool processes of a worker: its children, without the watcher of sandbox.lifeline."""
    return [
        child
        for child in (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        if _parent_of(child) == pid and "lifeline" not in _read(f"/proc/{child}/cmdline")
    ]


def is_running(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    stat = _read(f"/proc/{pid}/stat")
    return bool(stat) and " Z " not in stat


def _parent_of(pid: int) -> int | None:
    stat = _read(f"/proc/{pid}/stat")
    return int(stat.rpartition(")")[2].split()[1]) if stat else None


def _read(path: str) -> str:
    """A file of /proc; empty when the process has ended."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
