"""The services of docker-compose.yml as processes, without an engine: see tests/support/containers.py."""

import gzip
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from sandbox.embedded import free_port
from sandbox.processes import ChildProcess, SandboxError
from tests.support.containers import Project, can_run, first_process
from tests.support.stage import PATIENCE_S, Stage, wait_for
from tests.unit.test_layout import env_example

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(150),
    pytest.mark.skipif(not can_run(), reason="needs root and util-linux' unshare"),
]

USER = 1000
SCHEDULE = '[now_and_then]\ndo = "changes"\nevery = "1h"\n'
CELLS = ("--genres", "Drama,Comedy", "--years", "2018..2019")


@pytest.fixture
def project(stage: Stage, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Copied and filled in as docker-compose.yml's first lines say; its containers end with the test."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "exports").mkdir()
    os.chown(folder / "exports", USER, USER)
    for parent in folder.parents:
        with suppress(PermissionError):
            parent.chmod(parent.stat().st_mode | 0o011)
    started: list[Project] = []

    def build(**changes: str) -> Project:
        ours = {name: stage.environment[name] for name in ("TMDB_TOKEN", "TMDB_BASE_URL", "REELHAUL_RATE")}
        dotenv = {**env_example(), **ours, "FLOWER_BASIC_AUTH": "reader:s3cret-enough", **changes}
        replaced = {
            "redis://redis:6379/0": stage.redis_url,
            "mongodb://mongodb:27017/reelhaul": stage.mongo_url,
        }
        started.append(Project(folder, dotenv, replaced))
        return started[-1]

    yield build
    for one in started:
        one.stop()


def test_fleet_and_command_line_work(stage: Stage, project: Callable[..., Project]) -> None:
    """The two users share no file: uid 1000 writes exports, uid 10001 fetches."""
    stage.emulator("--movies", "2000")
    compose = project(REELHAUL_TICK_S="2", REELHAUL_SCHEDULE="schedule.toml")
    (compose.folder / "schedule.toml").write_text(SCHEDULE)
    fleet = {name: compose.start(name) for name in ("worker", "beat")}
    for name, process in fleet.items():
        wait_for(lambda name=name, process=process: compose.is_healthy(name, process), watching=[process])  # type: ignore[misc]

    def reelhaul(*arguments: str) -> str:
        status, output = compose.run("reelhaul", *arguments, patience_s=PATIENCE_S)
        assert status == 0, output
        return output

    assert "pages stored" in reelhaul("backfill", *CELLS)
    assert "every page stored" in reelhaul("verify")
    assert "is accepted by" in reelhaul("doctor")
    assert "1 of 1 page stored" in reelhaul("popular", "--pages", "1")
    assert "messages sent" in reelhaul("refresh", "--changes", "--detach")
    assert "messages sent" in reelhaul("details", "--detach")
    reelhaul("export", "movies.jsonl.gz")
    written = compose.folder / "exports" / "movies.jsonl.gz"
    assert written.stat().st_uid == USER
    assert len(gzip.decompress(written.read_bytes()).splitlines()) == stage.database[
        "movies"
    ].count_documents({})

    # The schedule's settings in .env reach the services that need them.
    assert [entry["schedule_entry"] for entry in json.loads(reelhaul("schedule", "--json"))] == [
        "now_and_then",
        "sweep",
    ]
    wait_for(lambda: stage.database["schedule"].find_one({"_id": "now_and_then"}) is not None)
    [heartbeat] = (compose.folder / "volume-run").glob("alive-beat-*.json")
    assert json.loads(heartbeat.read_text())["tick_s"] == 2


def test_processes_end_with_their_container(stage: Stage, project: Callable[..., Project]) -> None:
    """Left-over processes would take messages of other tests, which use the same Redis."""
    stage.emulator("--movies", "10")
    compose = project()
    beat = compose.start("beat")
    wait_for(lambda: compose.is_healthy("beat", beat), watching=[beat])
    inside = first_process(beat)
    compose.stop()
    wait_for(lambda: not Path(f"/proc/{inside}").exists())


def test_default_schedule(stage: Stage, project: Callable[..., Project]) -> None:
    stage.emulator("--movies", "10")
    compose = project()
    status, output = compose.run("reelhaul", "schedule", "--json", patience_s=PATIENCE_S)
    assert status == 0, output
    assert [entry["schedule_entry"] for entry in json.loads(output)] == [
        "changes",
        "recent",
        "totals",
        "oldest",
        "sweep",
    ]
    beat = compose.start("beat")
    wait_for(lambda: compose.is_healthy("beat", beat), watching=[beat])


def test_flower_keeps_its_database_and_gets_no_key(stage: Stage, project: Callable[..., Project]) -> None:
    stage.emulator("--movies", "10")
    compose = project()
    port = free_port()
    *command, _, _ = compose.services["flower"]["command"]
    database = "--db=/var/lib/flower/flower.db"
    assert database in compose.services["flower"]["command"]
    flower = compose.start("flower", *command, "--address=127.0.0.1", f"--port={port}", database)

    def answers() -> bool:
        with suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 401
        return False

    wait_for(answers, watching=[flower])
    assert not any("KEY" in name or "TOKEN" in name for name in compose.environment("flower"))


def metrics_folders(compose: Project) -> list[Path]:
    return list((compose.folder / "volume-run").glob("metrics-*"))


def test_prefork_workers_of_two_containers_keep_separate_metrics(
    stage: Stage, project: Callable[..., Project]
) -> None:
    stage.emulator("--movies", "10")
    ports = [free_port(), free_port()]
    workers: list[ChildProcess] = []
    for port in ports:
        compose = project(REELHAUL_METRICS_PORT=str(port))
        command = compose.services["worker"]["command"]
        workers.append(
            compose.start("worker", *command, "--pool=prefork", "--concurrency=1", hostname=f"host{port}")
        )
    wait_for(lambda: len(metrics_folders(compose)) == 2, watching=workers)
    for port, worker in zip(ports, workers, strict=True):
        wait_for(lambda port=port: scrape(port), watching=[worker])  # type: ignore[misc]
    os.kill(first_process(workers[0]), signal.SIGTERM)
    with suppress(SandboxError):
        workers[0].wait(PATIENCE_S)
    assert len(metrics_folders(compose)) == 1
    assert scrape(ports[1])


def scrape(port: int) -> bool:
    with suppress(requests.ConnectionError):
        return "reelhaul_limiter_open" in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return False
