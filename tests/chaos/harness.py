"""A whole fleet of real processes, made to be hurt: servers, workers, beat; a plan to judge the end by.

A `Rig` is one run: `backfill()` enqueues through the command line, faults are done to what is public
(`rig.redis`, `rig.mongo`, `rig.emulator`, `rig.workers`), `completes()` waits until nothing is missing and
compares what is stored with the emulator's own catalogue, page by page and movie by movie.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import pymongo
import requests
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sandbox.embedded import EmbeddedServer
from sandbox.fleet import Fleet
from sandbox.processes import ChildProcess
from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from tests.support.redis_faults import DelayingProxy

Document = dict[str, Any]
Server = TypeVar("Server", bound=EmbeddedServer)

#: Celery's prefix of every key in Redis (worker.app).
PREFIX = "{reelhaul}:"
#: Seconds between two looks at what a run waits for.
LOOK_S = 0.2
#: Seconds for workers to start on a machine that does much else.
READY_S = 60.0
#: The promise: what a fault took is back within two minutes.
RECOVERY_S = 120.0
#: Requests above the plan, answers that the emulator spoiled not counted: at most this share of it.
EXTRA = 0.05
GENRES = {"Drama": 18, "Comedy": 35}
PAGE_SIZE = 20
#: A credential that can be looked for wherever it does not belong.
TOKEN = "canary-0b7e6d1f-token"  # noqa: S105 -- made up
CELERY = (sys.executable, "-m", "celery", "-A", "worker.app")
COMMAND = Path(sys.executable).with_name("reelhaul")


@dataclass(frozen=True)
class Outcome:
    """One row of the table that ends `make chaos`."""

    fault: str
    pages: int
    lost: int
    doubled: int
    extra: int
    #: From the fault's end until nothing was missing; None when the fault lasted as long as the run.
    recovery_s: float | None


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The rows as lines, under their headings."""
    width = max(len(outcome.fault) for outcome in outcomes)
    lines = [f"{'fault':{width}}  pages   lost  doubled  extra requests  seconds to recover"]
    for outcome in outcomes:
        recovery = "-" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}"
        lines.append(
            f"{outcome.fault:{width}}  {outcome.pages:5}  {outcome.lost:5}  {outcome.doubled:7}  "
            f"{outcome.extra:14}  {recovery:>18}"
        )
    return lines


@dataclass
class Audit:
    """What is stored, compared with the catalogue: ids of what is not as it should be."""

    planned: int
    #: Requests above the plan, `besides` included.
    extra: int
    #: For pages that are not in the plan: probes, and what a page that fails is compared with.
    besides: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


class ChaosMongo(EmbeddedMongo):
    """The embedded server with MongoDB's own failpoints: errors, delays and cuts, command by command."""

    def _command(self, port: int, folder: Path) -> list[str]:
        return [*super()._command(port, folder), "--enable-test-commands"]

    def fail(self, *commands: str, **how: Any) -> None:
        """Until `heal`, strike these commands of Reelhaul's connections: errorCode, blockTimeMS, ..."""
        data = {"failCommands": list(commands), "appName": "reelhaul", **how}
        self._configure({"mode": "alwaysOn", "data": data})

    def heal(self) -> None:
        """Answer again as a server should."""
        self._configure({"mode": "off"})

    def _configure(self, point: Mapping[str, Any]) -> None:
        client: pymongo.MongoClient[Document]
        with pymongo.MongoClient(self.url) as client:
            client.admin.command({"configureFailPoint": "failCommand", **point})


def _sweep_alone(folder: Path) -> Path:
    """A schedule of the lost-message sweep, at every look, and nothing else."""
    path = folder / "schedule.toml"
    path.write_text("", encoding="utf-8")
    return path


class Rig:
    """Servers, workers and beat of one run, with what is planned; ends them all when it is left."""

    def __init__(
        self,
        folder: Path,
        *,
        movies: int = 12_000,
        years: tuple[int, int] = (2010, 2025),
        rate: int = 60,
        slots: int = 8,
        latency_ms: int = 30,
        emulator: Sequence[str] = (),
        redis: type[EmbeddedRedis] = EmbeddedRedis,
        redis_password: str = "",
        proxied: bool = False,
        **environment: str,
    ) -> None:
        self.folder, self.years, self._rate, self._redis_password = folder, years, rate, redis_password
        self._emulator_options = ("--movies", str(movies), "--latency-ms", str(latency_ms), *emulator)
        self._settings = {
            "REELHAUL_RATE": str(rate),
            "REELHAUL_CONCURRENCY": str(slots),
            "REELHAUL_TICK_S": "4",
            "REELHAUL_RUN_FOLDER": str(folder / "run"),
            # What beat fetches by itself besides would blur what a fault costs.
            "REELHAUL_SCHEDULE": str(_sweep_alone(folder)),
            **environment,
        }
        self._redis_type, self._proxied = redis, proxied
        self._stack = ExitStack()
        self._fault_over_s: float | None = None
        self._cut_off = 0
        self.workers: list[ChildProcess] = []
        self.recovery_s: float | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # What a run is made of

    def start_workers(self, *options: Sequence[str], **environment: str) -> list[ChildProcess]:
        """Start one worker for each line of options, two by default, and return when they consume."""
        fleet = self._odd_fleet(environment) if environment else self.fleet
        started = [fleet.worker(*line) for line in options or ((), ())]
        for worker in started:
            worker.wait_until(lambda worker=worker: " ready." in worker.log_text(), READY_S)  # type: ignore[misc]
        self.workers += started
        return started

    def start_beat(self) -> ChildProcess:
        """Start the one that says that something may be due."""
        return self.fleet.beat()

    def backfill(self) -> None:
        """Enqueue the plan, as a user does."""
        self.reelhaul("backfill", *self.request(), "--detach")

    def begin_anew(self) -> None:
        """Forget what is stored, asked for and counted; the processes run on."""
        self.emulator.configure(faults=[])
        self.until("all messages done", self.is_idle)
        for name in ("pages", "movies", "failures", "backfills"):
            self.database[name].delete_many({})
        with self.redis_client() as client:
            client.delete("{reelhaul}:gate")
        self.emulator.reset()

    def request(self) -> list[str]:
        """What the plan is made of, as options."""
        first, last = self.years
        return ["--genres", ",".join(GENRES), "--years", f"{first}..{last}"]

    def reelhaul(self, *arguments: str) -> str:
        """Run one command to its end; its output."""
        return self._run([str(COMMAND), *arguments])

    def reelhaul_fails(self, *arguments: str, **environment: str) -> str:
        """Run one command that cannot work, with another environment; what it says."""
        ended = subprocess.run(
            [COMMAND, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr

    def celery(self, *arguments: str) -> str:
        """Run one of Celery's commands to its end; its output."""
        return self._run([*CELERY, *arguments])

    def celery_pongs(self) -> int:
        """How many workers answer."""
        return self._run([*CELERY, "inspect", "ping", "--timeout", "2"], check=False).count("pong")

    def python(self, code: str, text: str = "") -> str:
        """Run a few lines in the fleet's environment, with `text` as standard input; their output."""
        return self._run([sys.executable, "-c", code], text)

    def _run(self, command: Sequence[str], text: str = "", *, check: bool = True) -> str:
        ended = subprocess.run(
            command, env=self.environment, input=text, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0 or not check, ended.stdout + ended.stderr
        return ended.stdout

    def kill(self, *workers: ChildProcess) -> None:
        """SIGKILL, to be followed by other workers: nothing of these is told or closed."""
        for worker in workers:
            worker.send(signal.SIGKILL)
        for worker in workers:
            worker.kill()
            self.forget(worker)
        # What was asked for and is not stored died with them: it has to be asked for once more.
        asked = {row[4] for row in self.emulator.log() if row[3] == "discover"}
        self._cut_off += len(
            asked - {_log_key(page["_id"]) for page in self.database.pages.find({}, {"_id": 1})}
        )

    def check(self) -> None:
        """Nothing has ended by itself."""
        for fleet in self._fleets:
            fleet.check()

    def forget(self, worker: ChildProcess) -> None:
        """It ends on purpose."""
        self.workers.remove(worker)
        for fleet in self._fleets:
            if worker in fleet.processes:
                fleet.processes.remove(worker)

    # What is waited for

    def until(self, what: str, is_true: Callable[[], bool], timeout_s: float = RECOVERY_S) -> None:
        """Wait until it is true; fails after `timeout_s`, or when a process ended that nobody killed."""
        deadline = time.monotonic() + timeout_s
        while not is_true():
            self.check()
            assert time.monotonic() < deadline, f"after {timeout_s:g} s not yet: {what}\n{self.situation()}"
            time.sleep(LOOK_S)

    def until_stored(self, share: float) -> None:
        """Wait until this share of the plan is stored."""
        self.until(f"{share:.0%} stored", lambda: self.stored() >= share * len(self.pages))

    def fault_is_over(self) -> None:
        """From here on the fleet recovers by itself, and the clock runs."""
        self._fault_over_s = time.monotonic()

    def stored(self, since: datetime | None = None) -> int:
        """Pages stored so far, fetched at or after `since`; -1 while MongoDB does not answer."""
        try:
            return self.database.pages.count_documents({"fetched_at": {"$gte": since}} if since else {})
        except PyMongoError:
            return -1

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

    def completes(
        self,
        *,
        quarantined: int = 0,
        within_s: float = RECOVERY_S,
        probing: bool = False,
        again: int = 0,
    ) -> None:
        """Wait until nothing is missing, then compare all of it: every promise is kept.

        With `probing`, requests that only ask how the API is may come on top, and second requests for as many
        pages as `again` says.
        """
        self.until_complete(within_s)
        audit = self.compare()
        assert len(audit.quarantined) == quarantined, audit.quarantined
        assert audit.lost == sorted(audit.quarantined)
        assert audit.doubled == []
        assert audit.wrong == []
        allowed = max(EXTRA * audit.planned, self._cut_off, again)
        # A page that fails three times is compared with three others, which may be in the plan as well.
        extra = audit.extra - (audit.besides + 3 if probing else 0)
        assert extra <= allowed, f"{extra} requests above {audit.planned}, {self._cut_off} cut off"
        self.check()

    # What the end is judged by

    def read_catalogue(self) -> dict[int, Document]:
        """What the emulator serves at this moment, by id."""
        answer = requests.get(
            self.emulator.base_url.removesuffix("/3") + "/_emulator/movies", timeout=30, stream=False
        )
        return {movie["id"]: movie for movie in map(json.loads, answer.content.splitlines())}

    def cells(self) -> dict[tuple[int, str], set[int]]:
        """Movie ids of each planned cell, by genre and year."""
        first, last = self.years
        cells = {
            (genre, str(year)): set[int]() for genre in GENRES.values() for year in range(first, last + 1)
        }
        for movie in self.catalogue.values():
            for genre in movie["genre_ids"]:
                cells.get((genre, movie["release_date"][:4]), set()).add(movie["id"])
        return cells

    def plan(self) -> None:
        """Take what the emulator serves at this moment for what the end is judged by."""
        self.catalogue = self.read_catalogue()
        self.pages = {
            f"{genre}:{year}:{page}"
            for (genre, year), ids in self.cells().items()
            for page in range(1, max(1, math.ceil(len(ids) / PAGE_SIZE)) + 1)
        }

    def compare(self) -> Audit:
        """The store beside the catalogue."""
        audit = Audit(len(self.pages), *self.extra_requests())
        pages = list(self.database.pages.find())
        audit.lost = sorted(self.pages - {page["_id"] for page in pages})
        audit.quarantined = [failure["_id"] for failure in self.database.failures.find()]
        self._compare_cells(pages, audit)
        self._compare_movies(audit)
        self.audit = audit
        return audit

    def _compare_cells(self, pages: list[Document], audit: Audit) -> None:
        stored = defaultdict[tuple[int, str], list[int]](list)
        places = Counter((page["genre_id"], page["window"], page["page"]) for page in pages)
        audit.doubled += [f"page {place}" for place, times in places.items() if times > 1]
        for page in pages:
            stored[page["genre_id"], page["window"]] += page["movie_ids"]
        given_up = {tuple(id_.rsplit(":", 1)[0].split(":", 1)) for id_ in audit.quarantined}
        for (genre, window), ids in self.cells().items():
            audit.doubled += [
                f"{genre}:{window} {id_}" for id_, n in Counter(stored[genre, window]).items() if n > 1
            ]
            whole = (str(genre), window) not in given_up
            if not (set(stored[genre, window]) == ids if whole else set(stored[genre, window]) < ids):
                audit.wrong.append(f"cell {genre}:{window}")

    def _compare_movies(self, audit: Audit) -> None:
        movies = list(self.database.movies.find())
        copies = Counter(movie["id"] for movie in movies)
        audit.doubled += [f"movie {id_}" for id_, times in copies.items() if times > 1]
        for movie in movies:
            raw = {name: value for name, value in movie.items() if name not in ("_id", "_meta")}
            if raw != self.catalogue.get(movie["_id"]):
                audit.wrong.append(f"movie {movie['_id']}")
        expected = set[int]().union(*self.cells().values())
        if not audit.quarantined and copies.keys() != expected:
            audit.wrong.append(f"{len(copies.keys() ^ expected)} movies too many or too few")

    def extra_requests(self) -> tuple[int, int]:
        """Pages asked for again, or for nothing, among the answers that were as they should be.

        And how many of them are not in the plan.
        """
        good = Counter(
            key
            for _, _, status, kind, key, _, fault in self.emulator.log()
            if kind == "discover" and status == 200 and fault is None
        )
        planned = set(map(_log_key, self.pages))
        besides = sum(times for key, times in good.items() if key not in planned)
        return good.total() - len(good.keys() & planned), besides

    def outcome(self, fault: str) -> Outcome:
        """The row of a run that ended well."""
        audit = self.audit
        lost = len(set(audit.lost) - set(audit.quarantined))
        return Outcome(fault, audit.planned, lost, len(audit.doubled), audit.extra, self.recovery_s)

    def queue_lengths(self) -> dict[str, int]:
        """Messages by lane, and those with a worker; empty while Redis does not answer."""
        with self.redis_client() as client:
            try:
                lanes = ("refresh", "pages", "cells", "movies")
                lengths = {lane: int(client.llen(f"{PREFIX}{lane}")) for lane in lanes}
                return {**lengths, "unacked": int(client.hlen(f"{PREFIX}unacked"))}
            except RedisError:
                return {}

    def is_idle(self) -> bool:
        """No message waits, none is with a worker."""
        lengths = self.queue_lengths()
        return bool(lengths) and not any(lengths.values())

    def redis_client(self) -> Redis:
        """For a look or a blow; close it."""
        return Redis.from_url(self.environment["REDIS_URL"], socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def situation(self) -> str:
        """What a person wants to know of a run that went wrong."""
        missing: list[str] = []
        with suppress(PyMongoError):
            missing = sorted(self.pages - {page["_id"] for page in self.database.pages.find({}, {"_id": 1})})
        words = [f"missing {len(missing)}: {' '.join(missing[:10])}", f"queues {self.queue_lengths()}"]
        words += [f"{worker}\n{worker.log_tail()}" for worker in self.workers]
        return "\n".join(words)

    # How it starts and ends

    def _start(self) -> None:
        self.redis = self._serve(self._redis_type(folder=self._made("redis")))
        self.mongo = self._serve(ChaosMongo(folder=self._made("mongo")))
        # Twice what the fleet may ask for in a second: how evenly it asks is for others to judge.
        limit = ("--rate", str(self._rate), "--capacity", str(2 * self._rate))
        self.emulator = self._serve(
            EmulatorProcess(*limit, *self._emulator_options, folder=self._made("emulator"))
        )
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(self.folder),
            "REDIS_URL": self._proxied_url(),
            "MONGO_URL": f"{self.mongo.url}/reelhaul",
            "TMDB_BASE_URL": self.emulator.base_url,
            "TMDB_TOKEN": TOKEN,
            **self._settings,
        }
        self.fleet = Fleet(self.environment, self._made("logs"))
        self._fleets = [self.fleet]
        self._stack.callback(self._end_fleet)
        self.plan()
        client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            self.mongo.url, serverSelectionTimeoutMS=1_000, socketTimeoutMS=5_000, tz_aware=True
        )
        self._stack.callback(client.close)
        self.database: Database[Document] = client["reelhaul"]
        # Today's refresh is done: what it fetches would count as requests above the plan.
        self.database.schedule.insert_one({"_id": "refresh", "claimed_at": datetime.now(UTC)})

    def _redis_url(self) -> str:
        if not self._redis_password:
            return self.redis.url
        with Redis.from_url(self.redis.url) as client:
            client.config_set("requirepass", self._redis_password)
        return self.redis.url.replace("://", f"://:{self._redis_password}@")

    def _proxied_url(self) -> str:
        """As the fleet sees it: with `proxied`, answers come by way of `self.proxy`."""
        if not self._proxied:
            return self._redis_url()
        self.proxy = self._stack.enter_context(DelayingProxy(self._redis_url()))
        return self.proxy.url

    def _odd_fleet(self, environment: Mapping[str, str]) -> Fleet:
        """One whose processes see something else than the others do."""
        fleet = Fleet({**self.environment, **environment}, self._made(f"logs{len(self._fleets)}"))
        self._fleets.append(fleet)
        return fleet

    def _serve(self, server: Server) -> Server:
        server.start()
        self._stack.callback(server.kill)
        return server

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _end_fleet(self) -> None:
        """At once: a fault may have left them waiting for what will not come."""
        for worker in (process for fleet in self._fleets for process in fleet.processes):
            # The whole session: children of a killed main process must not linger either.
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.kill()


def _log_key(page: str) -> str:
    """A planned page as the emulator's log calls it."""
    genre, year, number = page.split(":")
    return f"{genre}:{year}-01-01/{year}-12-31:{number}"


def children(pid: int) -> list[int]:
    """The pool processes of a worker: its children, without the watcher of sandbox.lifeline."""
    return [
        child
        for child in (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        if _parent_of(child) == pid and "lifeline" not in _command_of(child)
    ]


def is_running(pid: int) -> bool:
    """Whether it runs: neither gone nor a zombie."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


def _parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return None


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""
