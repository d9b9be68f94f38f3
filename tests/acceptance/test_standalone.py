"""`reelhaul standalone`: a fleet in one command, stopped or killed."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from sandbox.embedded import accepts_connections, free_port, port_is_free
from sandbox.processes import ChildProcess
from tests.support.comparison import catalogue, expected_cells
from tests.support.stage import Stage, marked_processes, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage with addresses where no server runs yet."""
    redis_url = f"redis://127.0.0.1:{free_port()}/0"
    mongo_url = f"mongodb://127.0.0.1:{free_port()}/reelhaul"
    with closing(Stage(tmp_path, redis_url, mongo_url)) as stage:
        stage.environment["TMPDIR"] = str(tmp_path)
        path = os.environ["PATH"].split(os.pathsep)
        without = [folder for folder in path if not (Path(folder) / "mongod").exists()]
        stage.environment["PATH"] = os.pathsep.join(without)
        yield stage


def begin(stage: Stage, workers: int = 1) -> tuple[ChildProcess, int]:
    """The command, once a worker consumes, and Flower's port."""
    port, before = free_port(), times_ready(stage)
    folder = str(stage.folder / "data")
    options = ("--flower-port", str(port), "--folder", folder, "--workers", str(workers))
    standalone = stage.begin("standalone", *options)
    wait_for(lambda: times_ready(stage) > before, watching=[standalone])
    return standalone, port


def times_ready(stage: Stage) -> int:
    """How often workers became ready, in this run and in earlier ones: logs are appended to."""
    return sum(log.read_text().count(" ready") for log in (stage.folder / "data").glob("worker*.log"))


def test_a_backfill_works_and_sigterm_stops_everything(stage: Stage) -> None:
    server = stage.emulator("--movies", "1000")
    standalone, port = begin(stage)
    for name in ("Redis", "MongoDB"):
        assert f"started an embedded {name}" in standalone.log_text()
    ended = stage.reelhaul("backfill", "--genres", "War,Drama", "--years", "2018..2019")
    assert ended.returncode == 0, ended.stderr
    cells = expected_cells(catalogue(server), (18, 10752), (2018, 2019))
    assert stage.stored_movies().keys() == set().union(*cells.values())
    wait_for(lambda: accepts_connections(port), watching=[standalone])
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=20).status_code in (200, 401)

    standalone.send(signal.SIGTERM)
    assert standalone.wait(60) == 0, standalone.log_text()
    assert standalone.log_text().rstrip().endswith("stopped")
    assert "Traceback" not in standalone.log_text()
    wait_for(lambda: not marked_processes(stage.folder))

    standalone, _ = begin(stage)
    again = stage.reelhaul("backfill", "--genres", "War,Drama", "--years", "2018..2019", "--dry-run")
    assert " 0 to fetch" in again.stdout, "the data of the first run is still there"
    standalone.send(signal.SIGINT)
    assert standalone.wait(60) == 0, standalone.log_text()


#: Answers as mongod, with its options.
MONGOD = f"""#!{sys.executable}
import os, sys
assert sys.argv[1::2] == ["--bind_ip", "--port", "--dbpath", "--nounixsocket"], sys.argv
_, _, host, _, port, _, data, *_ = sys.argv
options = ["--standalone", "--host", host, "--port", port, "--storage-path", data]
os.execv(sys.executable, [sys.executable, "-m", "secantus", *options])
"""


def test_mongod_on_path_is_preferred_to_the_beta(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    program = stage.folder / "bin" / "mongod"
    program.parent.mkdir()
    program.write_text(MONGOD)
    program.chmod(0o755)
    stage.environment["PATH"] = f"{program.parent}{os.pathsep}{stage.environment['PATH']}"
    standalone, _ = begin(stage)
    assert f"MONGO_URL: started {program} on port" in standalone.log_text()
    assert stage.reelhaul("backfill", "--genres", "all", "--years", "2018").returncode == 0
    assert list((stage.folder / "data" / "mongod" / "storage").iterdir())


def test_each_worker_has_a_metrics_port_of_its_own(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    first = next(port for port in iter(free_port, 0) if port_is_free(port + 1))
    stage.environment["REELHAUL_METRICS_PORT"] = str(first)
    standalone, _ = begin(stage, workers=2)
    for port in (first, first + 1):
        wait_for(lambda port=port: accepts_connections(port), watching=[standalone])  # type: ignore[misc]
        metrics = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text
        assert "reelhaul_limiter_open 1.0" in metrics
    addresses = [f"http://127.0.0.1:{port}/metrics" for port in (first, first + 1)]
    assert f"metrics at {', '.join(addresses)}\n" in standalone.log_text()


def test_its_children_end_when_it_is_killed(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    standalone, _ = begin(stage)
    assert len(marked_processes(stage.folder)) > 5
    standalone.kill()
    wait_for(lambda: not marked_processes(stage.folder))
