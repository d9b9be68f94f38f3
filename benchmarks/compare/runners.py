"""How each contestant is started: Reelhaul's workers by pool, and its peers in their own environment."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.compare.catalogue import FIRST_YEAR, GENRE_NAME, Catalogue
from sandbox.fleet import READY_S, REELHAUL, Fleet
from sandbox.processes import ChildProcess

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
#: Requests in flight that each process is allowed, except where the pool says otherwise.
CONCURRENCY = 32
#: A limit that is in nobody's way.
UNLIMITED = {"REELHAUL_RATE": "20000/s", "REELHAUL_CAPACITY": "5000", "REELHAUL_CONNECTIONS": "400"}


@dataclass(frozen=True)
class Run:
    """What one run works on: addresses, the catalogue, a folder of its own; `rate` None for no limit."""

    base_url: str
    mongo_url: str
    redis_url: str
    catalogue: Catalogue
    folder: Path
    rate: float | None = None


@dataclass(frozen=True)
class Reelhaul:
    """Workers of one pool, which wait for a backfill to be requested."""

    label: str
    pool: str
    concurrency: int
    processes: int = 1

    def start(self, run: Run) -> list[ChildProcess]:
        """Ready workers."""
        fleet = self._fleet(run)
        options = ("--pool", self.pool, "--concurrency", str(self.concurrency))
        number = len(list(run.folder.glob("worker*.log")))
        workers = []
        for index in range(number + 1, number + 1 + self.processes):
            name = f"worker{index}"
            celery = (REELHAUL[0], "-m", "celery", "-A", "worker.app", "worker", "-n", f"{name}@%h")
            workers.append(fleet.start(*celery, "--without-gossip", "--without-mingle", *options, name=name))
        for worker in workers:
            worker.wait_until(lambda worker=worker: " ready" in worker.log_text(), READY_S)  # type: ignore[misc]
        return workers

    def request(self, run: Run) -> list[ChildProcess]:
        """The command that requests the backfill; the workers fetch first pages before it has ended."""
        years = f"{FIRST_YEAR}..{run.catalogue.last_year}"
        command = (*REELHAUL, "backfill", "--genres", GENRE_NAME, "--years", years, "--detach", "--quiet")
        return [self._fleet(run).start(*command, name="backfill")]

    def _fleet(self, run: Run) -> Fleet:
        limit = UNLIMITED
        if run.rate:
            limit = {"REELHAUL_RATE": f"{run.rate:g}/s", "REELHAUL_CAPACITY": "5"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REELHAUL_")}
        environment = {
            **kept,
            **limit,
            "TMDB_BASE_URL": run.base_url,
            "TMDB_TOKEN": "a-token-of-nobody",
            "TMDB_API_KEY": "",
            "REDIS_URL": run.redis_url,
            "MONGO_URL": run.mongo_url,
            "REELHAUL_RUN_FOLDER": str(run.folder / "run"),
            # Celery imports the application from the tree, wherever the command is run.
            "PYTHONPATH": str(ROOT),
        }
        return Fleet(environment, run.folder)


@dataclass(frozen=True)
class Peer:
    """`module` of benchmarks.peers; several processes divide the pages, unless they share a queue."""

    label: str
    module: str
    processes: int = 1
    concurrency: int = CONCURRENCY
    shares_queue: bool = False
    in_memory: bool = False

    def start(self, run: Run) -> list[ChildProcess]:
        """The running processes; a second call in the same folder resumes."""
        keys = run.catalogue.keys
        return [self._start(run, number, keys) for number in range(self.processes)]

    def request(self, run: Run) -> list[ChildProcess]:  # noqa: ARG002 -- a peer begins by itself
        return []

    def _start(self, run: Run, number: int, keys: list[str]) -> ChildProcess:
        mine = keys if self.shares_queue else keys[number :: self.processes]
        folder = run.folder / f"{self.module}{number}"
        folder.mkdir(exist_ok=True)
        pages = folder / "pages.txt"
        pages.write_text("\n".join(mine))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if self.in_memory:
            environment["CRAWLEE_IN_MEMORY"] = "1"
        command = [
            str(PEERS_PYTHON),
            "-m",
            f"benchmarks.peers.{self.module}",
            run.base_url,
            run.mongo_url,
            str(pages),
        ]
        command += [
            "--concurrency",
            str(self.concurrency),
            "--folder",
            str(folder),
            "--redis-url",
            run.redis_url,
        ]
        command += ["--rate", str(run.rate)] if run.rate else []
        return Fleet(environment, run.folder).start(*command, name=f"{self.module}{number}")


Contestant = Reelhaul | Peer


def missing_modules(contestants: list[Contestant]) -> dict[str, str]:
    """Why peers cannot be run here, by module: the last line of what their import prints."""
    reasons = {}
    for module in {peer.module for peer in contestants if isinstance(peer, Peer)}:
        if not PEERS_PYTHON.exists():
            reasons[module] = "make .venv-peers was not run"
            continue
        command = [str(PEERS_PYTHON), "-c", f"import benchmarks.peers.{module}"]
        tried = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if tried.returncode:
            reasons[module] = tried.stderr.strip().splitlines()[-1]
    return reasons


def empty_redis(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushdb()
