"""CPU time of one worker for each page, on static pages, with the embedded servers.

    python -m benchmarks cpu [--quick] [--json] [--rounds N] [--pages N] [--rate R] [--tree FOLDER]...

Each --tree is a checkout whose worker is measured; they take turns, each time with fresh servers. Default:
this one. A worker's time is its utime and stime in /proc, from ready to the last page stored.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pymongo

from benchmarks.static_pages import LAST_PAGE
from sandbox.embedded import HOST, free_port
from sandbox.fleet import READY_S, Fleet
from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis

HERE = Path(__file__).parents[1]
#: No limit in the way.
UNLIMITED = "100000"
#: Seconds for one run.
LONGEST_S = 300.0
POLL_S = 0.1
#: Run in the worker's own tree: enqueues as many first pages as make so many pages.
ENQUEUE = """
import sys
from worker.keys import Fetch, PageKey
from worker.tasks import enqueue
for genre_id in range(1, 1 + int(sys.argv[1]) // 500):
    enqueue([Fetch(PageKey(genre_id, "1999", 1), None)])
if rest := int(sys.argv[1]) % 500:
    enqueue(Fetch(PageKey(99, "1999", page), None) for page in range(2, rest + 2))
"""


def main(arguments: list[str]) -> int:
    """Print the medians; exit code 0."""
    options = _options(arguments)
    runs: dict[str, list[dict[str, float]]] = {tree: [] for tree in options.tree}
    for _ in range(options.rounds):
        for tree in options.tree:
            runs[tree].append(run(Path(tree).resolve(), options.pages, options.rate, options.profile))
            print(f"{tree}: {runs[tree][-1]}", file=sys.stderr)
    medians = {
        tree: {name: round(median(one[name] for one in measured), 2) for name in measured[0]}
        for tree, measured in runs.items()
    }
    if options.json:
        print(json.dumps({"pages": options.pages, "rate": options.rate, "medians": medians, "runs": runs}))
    else:
        for tree, figures in medians.items():
            print(f"{tree}: {', '.join(f'{name} {value}' for name, value in figures.items())}")
    return 0


def run(tree: Path, pages: int, rate: str, profile: str = "") -> dict[str, float]:
    """The worker's and MongoDB's CPU in ms a page, pages per second, lines of the log a page."""
    with _fleet(tree, rate) as (fleet, mongo):
        worker = fleet.worker("-E")
        worker.wait_until(lambda: " ready" in worker.log_text(), READY_S)
        before = [cpu_s(pid) for pid in (worker.pid, mongo.pid)]
        fleet.start(sys.executable, "-c", ENQUEUE, str(pages), name="enqueue")
        if profile:
            fleet.start(*profile.split(), "--pid", str(worker.pid), name="profile")
        began, stored = time.monotonic(), 0
        with pymongo.MongoClient[dict[str, Any]](mongo.url) as client:
            while stored < pages:
                time.sleep(POLL_S)
                stored = client["reelhaul"]["pages"].estimated_document_count()
                if time.monotonic() - began > LONGEST_S:
                    raise SandboxError(f"{stored} of {pages} pages:\n{worker.log_tail()}")
        passed_s = time.monotonic() - began
        after = [cpu_s(pid) for pid in (worker.pid, mongo.pid)]
        lines = worker.log_text().count("\n")
    own, server = ((end - begin) * 1000 / pages for begin, end in zip(before, after, strict=True))
    return {
        "worker_cpu_ms": round(own, 3),
        "mongodb_cpu_ms": round(server, 3),
        "pages_per_s": round(pages / passed_s, 1),
        "log_lines": round(lines / pages, 2),
    }


@contextmanager
def _fleet(tree: Path, rate: str) -> Iterator[tuple[Fleet, EmbeddedMongo]]:
    """Fresh servers and static pages; processes of the fleet import from `tree`."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="reelhaul-cpu-") as folder, chdir(folder):
        environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            "TMDB_TOKEN": "a-token-of-the-benchmarks",
            "TMDB_BASE_URL": f"http://{HOST}:{port}/3",
            "REELHAUL_RATE": rate,
            "REELHAUL_CAPACITY": "10000" if rate == UNLIMITED else "5",
            "REELHAUL_RUN_FOLDER": f"{folder}/run",
        }
        with Fleet(environment, Path(folder)) as fleet:
            pages = fleet.start(
                sys.executable, "-m", "benchmarks.static_pages", str(port), name="pages", PYTHONPATH=str(HERE)
            )
            fleet.serve(EmbeddedRedis(appendonly=False))
            mongo = fleet.serve(EmbeddedMongo())
            pages.wait_until(lambda: "ready" in pages.log_text(), READY_S)
            yield fleet, mongo


def cpu_s(pid: int) -> float:
    """Seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks cpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of 1,000 pages")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pages", type=int, help=f"at best a multiple of {LAST_PAGE}")
    parser.add_argument("--rate", default=UNLIMITED)
    parser.add_argument("--tree", action="append", help="a checkout to measure; may be repeated")
    parser.add_argument("--profile", default="", help="a profiler's command, which gets --pid")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.pages = options.pages or (1_000 if options.quick else 3_000)
    options.tree = options.tree or [str(HERE)]
    return options
