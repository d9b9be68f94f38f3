"""`reelhaul health` judges by the last heartbeats, and imports little."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from producer.cli.health import beat_problem, worker_problem
from worker.monitoring.heartbeat import Heartbeat

HEALTHY = {"pid": 1, "at": 1000.0, "contact_at": 999.0, "oldest_s": 30.0, "done": 5}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"at": 970.0}, "no heartbeat for 31 s"),
        ({"oldest_s": 121.0}, "one task has run for 121 s"),
        ({"contact_at": 880.0}, "no contact with Redis for 121 s"),
    ],
)
def test_worker(changes: dict[str, float], problem: str) -> None:
    assert worker_problem(HEALTHY | changes, 1001.0) == problem


def test_beat_may_miss_one_tick() -> None:
    heartbeat = {"pid": 1, "at": 1000.0, "tick_s": 60}
    assert beat_problem(heartbeat, 1139.0) == ""
    assert beat_problem(heartbeat, 1141.0) == "no message sent for 141 s"


MAIN = "from producer.cli.main import main; main()"


def health(
    *arguments: str, folder: Path, script: str = MAIN, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`reelhaul health ARGUMENTS` in `folder`, with only these of our settings."""
    inherited = {name: value for name, value in os.environ.items() if name != "REELHAUL_RUN_FOLDER"}
    return subprocess.run(
        [sys.executable, "-c", script, "health", *arguments],
        env={**inherited, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_exit_code_and_reason(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        ended = health(*arguments, folder=tmp_path, REELHAUL_RUN_FOLDER=str(tmp_path))
        return ended.returncode, ended.stderr

    assert run("worker") == (1, "no worker runs on this host\n")
    Heartbeat("worker", tmp_path).write(contact_at=time.monotonic(), oldest_s=0.0, done=1)
    assert run("worker") == (0, "")
    Heartbeat("worker", tmp_path).write(contact_at=time.monotonic(), oldest_s=500.0, done=1)
    assert run("worker") == (1, f"worker with pid {os.getpid()}: one task has run for 500 s\n")
    assert run("flower") == (2, "reelhaul: health 'flower': expected worker or beat\n")
    assert "ROLE (worker or beat)" in health("--help", folder=tmp_path).stdout
    assert run()[0] == 2


#: Each takes long to import.
HEAVY = {
    *("celery", "kombu", "redis", "pymongo", "bson", "pydantic", "pydantic_settings", "requests"),
    *("typer", "rich", "structlog", "asyncio", "ssl", "prometheus_client"),
}


@pytest.mark.parametrize("env", ["", "TMDB_TOKEN=none\n"])
def test_imports_nothing_heavy(tmp_path: Path, env: str) -> None:
    """Counts modules, not seconds; with the default folder, which .env does not change."""
    (tmp_path / ".env").write_text(env)
    listing = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {MAIN}"
    ended = health("worker", folder=tmp_path, script=listing, TMPDIR=str(tmp_path))
    assert (ended.returncode, ended.stderr) == (1, "no worker runs on this host\n")
    imported = {name.partition(".")[0] for name in ended.stdout.split()}
    assert "producer" in imported
    assert not HEAVY & imported


def test_run_folder_may_be_set_in_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REELHAUL_RUN_FOLDER=here\n")
    Heartbeat("worker", tmp_path / "here").write(contact_at=time.monotonic(), oldest_s=0.0, done=1)
    assert health("worker", folder=tmp_path).returncode == 0
