"""`reelhaul standalone`: a fleet in one command, and its end in order or not."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from sandbox.embedded import accepts_connections, free_port, port_is_free
from sandbox.processes import ChildProcess
from tests.support.stage import Stage, catalogue, expected_cell, marked_processes, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Addresses where nobody answers yet."""
    redis_url = f"redis://127.0.0.1:{free_port()}/0"
    mongo_url = f"mongodb://127.0.0.1:{free_port()}/reelhaul"
    with closing(Stage(tmp_path, redis_url, mongo_url)) as stage:
        stage.environment["TMPDIR"] = str(tmp_path)
        yield stage


def begin(stage: Stage, workers: int = 1) -> tuple[ChildProcess, int]:
    """The command, once a worker consumes; and Flower's port."""
    port, before = free_port(), times_ready(stage)
    folder = str(stage.folder / "data")
    options = ("--flower-port", str(port), "--folder", folder, "--workers", str(workers))
    standalone = stage.begin("standalone", *options)
    wait_for(lambda: times_ready(stage) > before, watching=[standalone])
    return standalone, port


def times_ready(stage: Stage) -> int:
    """How often a worker has said so, in this run and the ones before: logs are appended to."""
    return sum(log.read_text().count(" ready") for log in (stage.folder / "data").glob("worker*.log"))


def test_a_backfill_works_and_sigterm_ends_it_in_order(stage: Stage) -> None:
    server = stage.emulator("--movies", "1000")
    standalone, port = begin(stage)
    for name in ("Redis", "MongoDB"):
        assert f"started an embedded {name}" in standalone.log_text()
    ended = stage.reelhaul("backfill", "--genres", "War,Drama", "--years", "2018..2019")
    assert ended.returncode == 0, ended.stderr
    wanted = {
        id_
        for genre_id in (18, 10752)
        for year in (2018, 2019)
        for id_ in expected_cell(catalogue(server), genre_id, year)
    }
    assert stage.stored_movies().keys() == wanted
    wait_for(lambda: accepts_connections(port), watching=[standalone])
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=20).status_code in (200, 401)

    standalone.send(signal.SIGTERM)
    assert standalone.wait(60) == 0, standalone.log_text()
    assert standalone.log_text().rstrip().endswith("stopped")
    assert "Traceback" not in standalone.log_text()
    # The stage's own emulator was started by pytest and bears no mark.
    wait_for(lambda: not marked_processes(stage.folder))

    standalone, _ = begin(stage)
    again = stage.reelhaul("backfill", "--genres", "War,Drama", "--years", "2018..2019", "--dry-run")
    assert " 0 to fetch" in again.stdout, "the data of the first time is still there"
    standalone.send(signal.SIGINT)
    assert standalone.wait(60) == 0, standalone.log_text()


def test_each_worker_has_a_metrics_port_of_its_own(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    first = next(port for port in iter(free_port, 0) if port_is_free(port + 1))
    stage.environment["REELHAUL_METRICS_PORT"] = str(first)
    standalone, _ = begin(stage, workers=2)
    for port in (first, first + 1):
        wait_for(lambda port=port: accepts_connections(port), watching=[standalone])  # type: ignore[misc]
        told = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20)
        assert "reelhaul_limiter_open 1.0" in told.text
    addresses = [f"http://127.0.0.1:{port}/metrics" for port in (first, first + 1)]
    assert f"metrics at {', '.join(addresses)}\n" in standalone.log_text()


def test_killed_it_takes_its_children_along(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    standalone, _ = begin(stage)
    assert len(marked_processes(stage.folder)) > 5
    standalone.kill()
    wait_for(lambda: not marked_processes(stage.folder))
