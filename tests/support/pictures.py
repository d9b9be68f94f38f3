"""`make pictures`: docs/images from a real run of `reelhaul demo --keep`, Flower seen by a real browser."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pymongo
from playwright.sync_api import Page

from producer.charts.coverage_html import write
from producer.charts.coverage_png import coverage_png
from producer.charts.grid import coverage_grid
from producer.cli.genres import tally, write_pairs_png
from producer.progress import measure_all
from sandbox.processes import ChildProcess, spawn
from tests.support.browser import browser_page
from tests.support.stage import REELHAUL, wait_for
from worker.storage.database import Storage

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
#: The picture of coverage is taken when so many of the 125 cells are open.
SOME = 50


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reelhaul-pictures-") as folder:
        demo = spawn(
            [sys.executable, "-c", REELHAUL, "demo", "--keep", "--rate", "20"],
            env={**os.environ, "COLUMNS": "200"},
            log_path=Path(folder) / "demo.log",
        )
        try:
            _draw(demo, Path(folder))
        finally:
            demo.stop(60)


def _draw(demo: ChildProcess, folder: Path) -> None:
    wait_for(lambda: "MONGO_URL=" in demo.log_text(), watching=[demo])
    told = dict(re.findall(r"(REDIS_URL|MONGO_URL|Flower at)[= ](\S+?);?\s", demo.log_text()))
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(told["MONGO_URL"], tz_aware=True)
    with client:
        storage = Storage(client.get_default_database())
        wait_for(lambda: storage.pages.collection.count_documents({"page": 1}) >= SOME, watching=[demo])
        write(IMAGES / "coverage.png", coverage_png(coverage_grid(measure_all(storage))))
        wait_for(lambda: not measure_all(storage)[0].total.missing, watching=[demo])
        write_pairs_png(tally(storage.movies.each_genre_ids()), storage.genres.names(), IMAGES / "genres.png")
    with browser_page(folder) as page:
        page.goto(f"{told['Flower at']}/tasks")
        wait_for(lambda: _shows(page, "SUCCESS") and not _shows(page, "STARTED"))
        page.screenshot(path=IMAGES / "flower.png")


def _shows(page: Page, state: str) -> bool:
    return page.locator("#tasks-table .badge", has_text=state).count() > 0


if __name__ == "__main__":
    main()
