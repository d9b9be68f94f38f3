"""Watching a fleet: status and its charts, health, metrics with every pool, log lines of a page."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect

from sandbox.embedded import free_port
from tests.support.browser import browser_page
from tests.support.stage import PATIENCE_S, Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
REQUEST = ("--genres", "Drama,Comedy", "--years", "2016..2019")
REJECTED = "status=404:match=with_genres=18&.*2017.*page=1$"
TOKEN = "a-token-of-nobody"  # noqa: S105 -- the stage's


def scraped(port: int) -> dict[str, float]:
    """The worker's samples, by name and labels."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_metrics_count_everything_once_with_every_pool(stage: Stage, pool: str) -> None:
    server = stage.emulator("--movies", "3000", "--fault", REJECTED)
    port = free_port()
    stage.environment["REELHAUL_METRICS_PORT"] = str(port)
    worker = stage.worker(f"--pool={pool}", "--concurrency=3")
    assert stage.reelhaul("backfill", *REQUEST).returncode == 1  # one page is in quarantine
    assert stage.reelhaul("details", "-q").returncode == 0
    stored, movies = len(stage.stored_pages()), len(stage.stored_movies())
    tasks = stored + 1 + movies
    wait_for(lambda: scraped(port).get("reelhaul_task_seconds_count", 0) >= tasks, watching=[worker])
    samples = scraped(port)
    assert samples['reelhaul_fetches_total{kind="page",outcome="stored"}'] == stored
    assert samples['reelhaul_fetches_total{kind="page",outcome="quarantined"}'] == 1
    assert samples['reelhaul_quarantined_total{class="rejected",kind="page"}'] == 1
    assert samples['reelhaul_movies_total{change="new",kind="page"}'] == movies
    assert samples['reelhaul_fetches_total{kind="movie",outcome="stored"}'] == movies
    assert samples['reelhaul_requests_total{kind="page",status="404"}'] == 1
    assert samples['reelhaul_requests_total{kind="movie",status="200"}'] == movies
    requested = sum(value for name, value in samples.items() if name.startswith("reelhaul_requests_total"))
    arrived = sum(row[3] in ("discover", "details") for row in server.log())
    assert requested == arrived == samples["reelhaul_fetch_seconds_count"]
    assert samples["reelhaul_limiter_open"] == 1
    assert samples["reelhaul_limiter_requests_per_second"] == 500
    asked = set(re.findall(r"reelhaul_\w+", DASHBOARD.read_text()))
    assert asked <= {name.partition("{")[0] for name in samples}
    assert worker.stop() == 0
    assert list((stage.folder / "run").glob("metrics-*")) == []


def test_metrics_port_in_use_is_an_error_at_start(stage: Stage, redis_url: str) -> None:
    stage.environment["REELHAUL_METRICS_PORT"] = redis_url.split(":")[2].partition("/")[0]
    worker = stage.worker()
    assert worker.wait(PATIENCE_S) == 2
    assert "REELHAUL_METRICS_PORT" in worker.log_tail()
    assert "cannot listen there: Address already in use" in worker.log_tail()


def test_status_names_what_holds_back_and_draws_charts(stage: Stage, request: pytest.FixtureRequest) -> None:
    stage.environment |= {"REELHAUL_RATE": "20", "REELHAUL_CONCURRENCY": "2"}
    stage.emulator("--movies", "20000", "--latency-ms", "1000")
    worker = stage.worker()
    begun = stage.reelhaul("backfill", "--years", "2010..2019", "--detach")
    assert begun.returncode == 0, begun.stderr
    # Two threads at a second a page: at most 2 of 20 requests a second.
    wait_for(lambda: "threads are too few" in str(stage.progress()["bottleneck"]), watching=[worker])
    progress = stage.progress()
    assert re.search(
        r"concurrency: a page takes \d+ ms, 2 threads are too few; add \d+", progress["bottleneck"]
    )
    assert progress["limit_per_s"] == 20
    assert progress["requests_per_s"] <= 3
    assert progress["left_s"] > 0

    shown = stage.reelhaul("status", COLUMNS="80")
    assert "\nbottleneck: concurrency" in shown.stdout
    assert " left " in " ".join(shown.stdout.split())
    # No line is wrapped in a pipe; the tables fit a small terminal.
    rows = [line for line in shown.stdout.splitlines() if "━" in line]
    assert max(len(row.rstrip()) for row in rows) <= 80
    assert "\x1b" not in shown.stdout

    drawn = stage.reelhaul("status", "--html", "map.html", "--png", "map.png")
    assert (drawn.returncode, drawn.stdout) == (0, ""), drawn.stderr
    assert (stage.folder / "map.png").read_bytes().startswith(b"\x89PNG")
    pictures = ROOT / "test-pictures" / request.node.name
    with browser_page(pictures) as page:
        page.context.set_offline(True)
        page.goto(f"file://{stage.folder}/map.html")
        expect(page.locator("svg g")).to_have_count(19 * 10)
        expect(page.locator("svg g title").first).to_have_text(re.compile("Action 2010: "))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    worker.stop()
    wait_for(lambda: "no worker runs" in str(stage.progress()["bottleneck"]))


def test_watch_updates_until_ctrl_c(stage: Stage) -> None:
    stage.emulator("--movies", "500")
    worker = stage.worker()
    assert stage.reelhaul("backfill", "--genres", "Drama", "--years", "2017", "--quiet").returncode == 0
    watching = stage.begin("status", "--watch")
    wait_for(lambda: watching.log_text().count("Drama") > 1, watching=[watching])
    watching.send(signal.SIGINT)
    assert watching.wait(PATIENCE_S) == 0
    assert "complete" in watching.log_text()
    assert worker.running


def test_health_of_worker_and_beat(stage: Stage) -> None:
    assert stage.reelhaul("health", "worker").returncode == 1
    worker = stage.worker()
    beat = stage.start(sys.executable, "-m", "celery", "-A", "producer.schedule", "beat")
    for role, process in (("worker", worker), ("beat", beat)):
        wait_for(lambda role=role: stage.reelhaul("health", role).returncode == 0, watching=[process])  # type: ignore[misc]
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(PATIENCE_S)
    assert "no worker runs" in stage.reelhaul("health", "worker").stderr
    assert stage.reelhaul("health", "beat").returncode == 0
    beat.stop()
    assert "no beat runs" in stage.reelhaul("health", "beat").stderr


def test_log_has_a_pages_whole_life_under_its_key(stage: Stage) -> None:
    stage.emulator("--movies", "3000", "--fault", "429=1:count=1:match=2019", "--fault", REJECTED)
    stage.environment["REELHAUL_LOG_LEVEL"] = "DEBUG"
    worker = stage.worker()
    assert stage.reelhaul("backfill", *REQUEST).returncode == 1
    worker.stop()
    lines = [json.loads(line) for line in worker.log_text().splitlines() if line.startswith("{")]
    begun = worker.log_text().index(' ready."')
    begun = worker.log_text().index("\n", begun)
    plain = [line for line in worker.log_text()[begun:].splitlines() if line and not line.startswith("{")]
    assert all(line.startswith("worker: ") for line in plain), plain  # printed by Celery when it stops
    for line in lines:
        assert {"event", "level", "logger", "timestamp"} <= set(line)
    by_page: dict[str, list[str]] = {}
    for line in lines:
        if "page" in line:
            assert line["task"], line
            by_page.setdefault(line["page"], []).append(line["event"])
    assert set(stage.stored_pages()) <= set(by_page)
    for page in stage.stored_pages():
        assert by_page[page][-1] == "saved", by_page[page]
        assert "token acquired" in by_page[page], by_page[page]
    assert by_page["18:2017:1"][-1] == "quarantined"
    assert [line["event"] for line in lines].count("refused by TMDB") == 1
    assert TOKEN not in worker.log_text()
