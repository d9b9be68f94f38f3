"""`make pictures`: draw docs/images from a run of `reelhaul demo --keep`, Flower in a real browser."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pymongo
from playwright.sync_api import Page

from producer.charts.coverage_html import write
from producer.charts.grid import coverage_grid
from producer.charts.png import coverage_png
from producer.cli.genres import tally, write_pairs_png
from producer.progress import measure_all
from sandbox.fleet import REELHAUL
from sandbox.processes import ChildProcess, spawn
from tests.support.browser import browser_page
from tests.support.stage import wait_for
from worker.storage.database import Storage

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
#: Draw the coverage when this many of the 125 cells are open.
OPEN_CELLS = 50


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reelhaul-pictures-") as folder:
        demo = spawn(
            [*REELHAUL, "demo", "--keep", "--rate", "20"],
            env={**os.environ, "COLUMNS": "200"},
            log_path=Path(folder) / "demo.log",
        )
        try:
            _draw(demo, Path(folder))
        finally:
            demo.stop(60)


def _draw(demo: ChildProcess, folder: Path) -> None:
    wait_for(lambda: "MONGO_URL=" in demo.log_text(), watching=[demo])
    addresses = dict(re.findall(r"(REDIS_URL|MONGO_URL|Flower at)[= ](\S+?);?\s", demo.log_text()))
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(addresses["MONGO_URL"], tz_aware=True)
    with client:
        storage = Storage(client.get_default_database())
        wait_for(lambda: storage.pages.collection.count_documents({"page": 1}) >= OPEN_CELLS, watching=[demo])
        write(IMAGES / "coverage.png", coverage_png(coverage_grid(measure_all(storage))))
        wait_for(lambda: not measure_all(storage)[0].missing, watching=[demo])
        write_pairs_png(tally(storage.movies.each_genre_ids()), storage.genres.names(), IMAGES / "genres.png")
    with browser_page(folder) as page:
        page.goto(f"{addresses['Flower at']}/tasks")
        wait_for(lambda: _shows(page, "SUCCESS") and not _shows(page, "STARTED"))
        page.screenshot(path=IMAGES / "flower.png")


def _shows(page: Page, state: str) -> bool:
    return page.locator("#tasks-table .badge", has_text=state).count() > 0


if __name__ == "__main__":
    main()
