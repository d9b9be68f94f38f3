"""Metrics: the dashboard asks for what there is; seconds still being spent count."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from worker import signals as signs
from worker.errors import UsageError
from worker.monitoring import metrics
from worker.retry import TASK_S

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())


def names() -> set[str]:
    """What a worker tells Prometheus, by the names of samples."""
    meters = metrics.PrometheusMetrics()
    for kind in metrics.KINDS:
        meters.observe(kind, 0.1)
    for name in metrics.COUNTED:
        meters.count(name, "any", 1)
    return {sample.name for family in meters.registry.collect() for sample in family.samples}


def test_the_dashboard_asks_for_nothing_else() -> None:
    gate = {"reelhaul_limiter_open", "reelhaul_limiter_limit_per_second", "reelhaul_limiter_limit_used"}
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"reelhaul_\w+", target["expr"])
    }
    assert asked <= names() | gate
    labels = {
        (name, label)
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for label, name in re.findall(r"sum by \((\w+)\) \(\w+\((reelhaul_\w+)\[", target["expr"])
        if label != "le"
    }
    assert labels == {(f"reelhaul_{name}_total", label) for name, (_, label) in metrics.COUNTED.items()}


def test_every_histogram_has_room_above_what_a_task_may_take() -> None:
    for bounds in metrics.BUCKETS.values():
        assert list(bounds) == sorted(bounds)
    assert metrics.BUCKETS["task"][-1] >= TASK_S
    assert set(metrics.BUCKETS) == set(metrics.KINDS)


JOINING = """
import shutil, sys
from pathlib import Path
from worker.monitoring import metrics
folder = Path(sys.argv[1]) / "run" / "metrics-1"
metrics.share(folder)
shutil.rmtree(folder.parent)
metrics.join()
metrics.count("pages", "stored")
print(len(list(folder.iterdir())))
"""


def test_a_pool_process_counts_though_a_cleaner_has_removed_the_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOINING, str(tmp_path)], capture_output=True, text=True, check=True, timeout=30
    )
    assert int(done.stdout) > 0


def test_what_is_still_being_spent_counts() -> None:
    books = metrics.TimeAccounting()
    ticket = books.begin("gate")
    first = books.read()["gate"]
    second = books.read()["gate"]
    assert 0 < first < second
    assert books.end(ticket) >= second
    assert books.read()["gate"] == books.read()["gate"]
    assert books.read()["fetch"] == 0


def test_containers_that_share_the_run_folder_count_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each container counts its processes from 1: the host's name alone tells their folders apart."""
    folders = set()
    for name in ("one", "other"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        folders.add(signs.shared_folder(tmp_path))
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path}


COUNT = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from worker.monitoring import metrics
metrics.share(Path(sys.argv[1]))
metrics.join()
metrics.count("pages", "stored", 2)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry, path=sys.argv[1])
print(generate_latest(registry).decode())
"""


def test_what_a_killed_worker_counted_is_not_its_successors(tmp_path: Path) -> None:
    """After a restart a container has its name again, and its worker the same pid."""
    for _ in range(2):
        told = subprocess.run(
            [sys.executable, "-c", COUNT, str(tmp_path / "metrics")],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ).stdout
        assert 'reelhaul_pages_total{outcome="stored"} 2.0' in told


def test_a_run_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match=r"\AREELHAUL_RUN_FOLDER .*file: cannot be used for metrics: "):
        metrics.share(tmp_path / "file" / "metrics")
