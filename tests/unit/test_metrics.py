"""Metrics: the dashboard matches them, running spans count, pool processes add theirs up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.errors import UsageError
from worker.limiter.collector import LimiterCollector
from worker.monitoring import metrics
from worker.retry import TASK_S

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())


def sample_names() -> set[str]:
    """The names of all samples that a worker serves."""
    served = metrics.PrometheusMetrics()
    for kind in metrics.KINDS:
        served.observe(kind, 0.1)
    for name in metrics.COUNTED:
        served.count(name, "page", "any", 1)
    state = SimpleNamespace(closed_reason="", current_per_s=35.0, utilisation=float)
    limiter: Any = SimpleNamespace(state=lambda: state)
    served.registry.register(LimiterCollector(lambda: limiter))
    return {sample.name for family in served.registry.collect() for sample in family.samples}


def test_dashboard_shows_every_counter_and_no_unknown_metric() -> None:
    shown = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"reelhaul_\w+", target["expr"])
    }
    assert shown <= sample_names()
    labels = {
        (name, label)
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for label, name in re.findall(r"sum by \((\w+)\) \(\w+\((reelhaul_\w+)\[", target["expr"])
        if label not in ("le", "kind")
    }
    assert labels == {(f"reelhaul_{name}_total", label) for name, (_, label) in metrics.COUNTED.items()}


def test_task_histogram_reaches_the_longest_task() -> None:
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
metrics.count("fetches", "page", "stored")
print(len(list(folder.iterdir())))
"""


def test_pool_process_recreates_a_removed_metrics_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOINING, str(tmp_path)], capture_output=True, text=True, check=True, timeout=30
    )
    assert int(done.stdout) > 0


def test_running_spans_count() -> None:
    accounting = metrics.TimeAccounting()
    span = accounting.begin("token")
    first = accounting.read()["token"]
    second = accounting.read()["token"]
    assert 0 < first < second
    assert accounting.end(span) >= second
    assert accounting.read()["token"] == accounting.read()["token"]
    assert accounting.read()["fetch"] == 0


def test_containers_have_separate_metrics_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their pids are equal; only their host names differ."""
    folders = set()
    for name in ("one", "other"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        folders.add(metrics.shared_folder(tmp_path))
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path}


def test_what_a_process_saved_includes_pages_and_single_movies() -> None:
    """Or a fleet that fetches details alone would seem to stand still."""
    before = metrics.accounting().saved
    metrics.count("fetches", "movie", "stored")
    metrics.count("fetches", "movie", "fresh")
    metrics.count("fetches", "page", "stored", 2)
    assert metrics.accounting().saved == before + 3


COUNT = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from worker.monitoring import metrics
metrics.share(Path(sys.argv[1]))
metrics.join()
metrics.count("fetches", "page", "stored", 2)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry, path=sys.argv[1])
print(generate_latest(registry).decode())
"""


def test_metrics_of_a_killed_worker_are_dropped(tmp_path: Path) -> None:
    """A restarted container has the same host name, and its worker the same pid."""
    for _ in range(2):
        served = subprocess.run(
            [sys.executable, "-c", COUNT, str(tmp_path / "metrics")],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ).stdout
        assert 'reelhaul_fetches_total{kind="page",outcome="stored"} 2.0' in served


def test_unusable_metrics_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match=r"\AREELHAUL_RUN_FOLDER .*file: cannot be used for metrics: "):
        metrics.share(tmp_path / "file" / "metrics")
