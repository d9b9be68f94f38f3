"""Metrics: the dashboard asks for what there is; seconds still being spent count."""

import json
import re
import subprocess
import sys
from pathlib import Path

from worker import metrics

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())


def names() -> set[str]:
    """What a worker tells Prometheus, by the names of samples."""
    meters = metrics.Meters()
    for kind in metrics.KINDS:
        meters.observe(kind, 0.1)
    for name in metrics.COUNTED:
        meters.count(name, "any", 1)
    return {sample.name for family in meters.registry.collect() for sample in family.samples}


def test_the_dashboard_asks_for_nothing_else() -> None:
    gate = {"reelhaul_gate_open", "reelhaul_gate_limit_per_second", "reelhaul_gate_limit_used"}
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
    assert metrics.BUCKETS["task"][-1] >= 48
    assert set(metrics.BUCKETS) == set(metrics.KINDS)


JOINING = """
import shutil, sys
from pathlib import Path
from worker import metrics
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
    books = metrics.Books()
    ticket = books.begin("gate")
    first = books.read()["gate"]
    second = books.read()["gate"]
    assert 0 < first < second
    assert books.end(ticket) >= second
    assert books.read()["gate"] == books.read()["gate"]
    assert books.read()["fetch"] == 0
