"""Heartbeat files are written whole and through no link, and removed when their process has ended."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from worker.monitoring.heartbeat import Heartbeat, heartbeats_of


def test_files_of_ended_processes_are_removed_and_other_hosts_kept(tmp_path: Path) -> None:
    mine = Heartbeat("worker", tmp_path)
    mine.write(done=3)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    [own] = tmp_path.iterdir()
    (tmp_path / own.name.replace(str(os.getpid()), str(ended.pid))).write_text(json.dumps({"pid": ended.pid}))
    other_host = own.name.replace(socket.gethostname(), "elsewhere")
    (tmp_path / other_host).write_text("{}")
    assert [heartbeat["pid"] for heartbeat in heartbeats_of("worker", tmp_path)] == [os.getpid()]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own.name, other_host])
    mine.remove()
    mine.write(done=4)
    assert list(heartbeats_of("worker", tmp_path)) == []


def test_heartbeat_is_written_through_no_link(tmp_path: Path) -> None:
    mine = Heartbeat("worker", tmp_path / "run")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    name = f"alive-worker-{socket.gethostname()}-{os.getpid()}.json"
    for link in (name, f".{name}.{os.getpid()}.partial"):
        (tmp_path / "run" / link).symlink_to(victim)
    mine.write(done=1)
    assert victim.read_text() == "precious"
    assert [heartbeat["done"] for heartbeat in heartbeats_of("worker", tmp_path / "run")] == [1]


def test_heartbeat_recreates_a_removed_folder(tmp_path: Path) -> None:
    mine = Heartbeat("worker", tmp_path / "run")
    mine.write(done=1)
    shutil.rmtree(tmp_path / "run")
    mine.write(done=2)
    assert [heartbeat["done"] for heartbeat in heartbeats_of("worker", tmp_path / "run")] == [2]
