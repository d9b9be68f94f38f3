"""Importing our modules only defines things."""

import subprocess
import sys
from pathlib import Path

import pytest

IMPORT_ALL = """
import os, threading
from pkgutil import walk_packages
import flower.command  # worker.flowerconfig runs in Flower's process
import producer, reelhaul, worker
before = dict(os.environ)
for package in (worker, producer, reelhaul):
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        __import__(module.name)
print([name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)])
print(threading.active_count())
"""


def test_importing_changes_no_environment_variable_and_starts_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELHAUL_RUN_FOLDER", str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "[]\n1\n"
