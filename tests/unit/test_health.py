"""`reelhaul health`: what a process wrote last decides, and little is imported for it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from producer.cli.health import beat_trouble, worker_trouble
from worker.monitoring.heartbeat import Heartbeat, living

WELL = {"pid": 1, "at": 1000.0, "heard_at": 999.0, "oldest_s": 30.0, "done": 5}


def test_a_worker_that_moves_on_is_well() -> None:
    assert worker_trouble(WELL, 1001.0) == ""


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"at": 970.0}, "silent for 31 s"),
        ({"oldest_s": 121.0}, "works on one page for 121 s"),
        ({"heard_at": 880.0}, "has heard nothing from Redis for 121 s"),
    ],
)
def test_a_worker_that_does_not(changes: dict[str, float], trouble: str) -> None:
    assert worker_trouble(WELL | changes, 1001.0) == trouble


def test_beat_may_rest_for_two_ticks() -> None:
    told = {"pid": 1, "at": 1000.0, "tick_s": 60}
    assert beat_trouble(told, 1139.0) == ""
    assert beat_trouble(told, 1141.0) == "has sent nothing for 141 s"


def test_files_of_the_dead_are_removed_and_of_other_hosts_left(tmp_path: Path) -> None:
    mine = Heartbeat("worker", tmp_path)
    mine.write(done=3)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    [own] = tmp_path.iterdir()
    (tmp_path / own.name.replace(str(os.getpid()), str(dead.pid))).write_text(json.dumps({"pid": dead.pid}))
    (tmp_path / "alive-worker-elsewhere-1.json").write_text("{}")
    assert [told["pid"] for told in living("worker", tmp_path)] == [os.getpid()]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [own.name, "alive-worker-elsewhere-1.json"]
    )
    mine.remove()
    mine.write(done=4)
    assert list(living("worker", tmp_path)) == []


def test_a_heartbeat_follows_no_link(tmp_path: Path) -> None:
    alive = Heartbeat("worker", tmp_path / "run")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    name = f"alive-worker-{socket.gethostname()}-{os.getpid()}.json"
    for link in (name, f".{name}.{os.getpid()}.partial"):
        (tmp_path / "run" / link).symlink_to(victim)
    alive.write(done=1)
    assert victim.read_text() == "precious"
    assert [told["done"] for told in living("worker", tmp_path / "run")] == [1]


def test_a_heartbeat_comes_back_when_a_cleaner_has_removed_the_folder(tmp_path: Path) -> None:
    alive = Heartbeat("worker", tmp_path / "run")
    alive.write(done=1)
    shutil.rmtree(tmp_path / "run")
    alive.write(done=2)
    assert [told["done"] for told in living("worker", tmp_path / "run")] == [2]


MAIN = "from producer.cli.main import main; main()"
#: The same, and at its end every module that it has imported.
LISTED = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {MAIN}"


def health(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, "health", *arguments],
        env={**os.environ, "REELHAUL_RUN_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_the_command(tmp_path: Path) -> None:
    nobody = health("worker", folder=tmp_path)
    assert (nobody.returncode, nobody.stderr) == (1, "no worker runs on this host\n")
    Heartbeat("worker", tmp_path).write(heard_at=time.monotonic(), oldest_s=0.0, done=1)
    assert health("worker", folder=tmp_path).returncode == 0
    Heartbeat("worker", tmp_path).write(heard_at=time.monotonic(), oldest_s=500.0, done=1)
    stuck = health("worker", folder=tmp_path)
    assert (stuck.returncode, stuck.stderr) == (
        1,
        f"worker with pid {os.getpid()}: works on one page for 500 s\n",
    )
    unknown = health("flower", folder=tmp_path)
    assert (unknown.returncode, unknown.stderr) == (
        2,
        "reelhaul: health 'flower': expected worker or beat\n",
    )
    assert "ROLE (worker or beat)" in health("--help", folder=tmp_path).stdout
    assert health(folder=tmp_path).returncode == 2


#: Half a second of imports for a file of a hundred bytes.
HEAVY = {
    *("celery", "kombu", "redis", "pymongo", "bson", "pydantic", "pydantic_settings", "requests"),
    *("typer", "rich", "structlog", "asyncio", "ssl", "prometheus_client"),
}


@pytest.mark.parametrize("env", ["", "TMDB_TOKEN=none\n"])
def test_it_imports_nothing_heavy(tmp_path: Path, env: str) -> None:
    """Counted in modules, not in seconds; at the default folder, with an .env that does not name another."""
    (tmp_path / ".env").write_text(env)
    environment = {name: value for name, value in os.environ.items() if name != "REELHAUL_RUN_FOLDER"}
    asked = subprocess.run(
        [sys.executable, "-c", LISTED, "health", "worker"],
        env={**environment, "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (asked.returncode, asked.stderr) == (1, "no worker runs on this host\n")
    imported = {name.partition(".")[0] for name in asked.stdout.split()}
    assert "producer" in imported
    assert not HEAVY & imported


def test_a_folder_that_env_names_is_found(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REELHAUL_RUN_FOLDER=here\n")
    Heartbeat("worker", tmp_path / "here").write(heard_at=time.monotonic(), oldest_s=0.0, done=1)
    environment = {name: value for name, value in os.environ.items() if name != "REELHAUL_RUN_FOLDER"}
    asked = subprocess.run(
        [sys.executable, "-c", MAIN, "health", "worker"],
        env=environment,
        cwd=tmp_path,
        check=False,
        timeout=50,
    )
    assert asked.returncode == 0
