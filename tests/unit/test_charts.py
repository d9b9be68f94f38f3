"""The coverage chart: complete counts, honest about unknown cells, written whole or not at all."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producer.charts.coverage_html import coverage_html, write
from producer.charts.grid import UNKNOWN, Grid, coverage_grid
from producer.charts.png import coverage_png
from producer.coverage import Coverage
from producer.requests.backfills import Backfill
from producer.requests.request import Progress
from worker.errors import UsageError
from worker.keys import Cell

AT = datetime(2026, 1, 1, tzinfo=UTC)
FULL, PARTIAL, QUARANTINED, UNOPENED = (
    Coverage(1, 1, 4, 4),
    Coverage(1, 1, 4, 1),
    Coverage(1, 1, 4, 3, 1),
    Coverage(1, 0, 1, 0),
)


def progress(cells: dict[Cell, Coverage], genres: dict[int, str]) -> Progress:
    years = tuple(sorted({int(cell.window) for cell in cells}))
    return Progress(Backfill(genres, years, None, AT), Coverage(), by_cell=cells)


def large() -> Grid:
    genres = {number: f"Genre <{number}>" for number in range(19)}
    parts = [FULL, PARTIAL, QUARANTINED, UNOPENED]
    cells = {Cell(g, str(y)): parts[(g + y) % 4] for g in genres for y in range(1896, 2026)}
    return coverage_grid([progress(cells, genres)])


def test_each_cell_shows_its_counts() -> None:
    parts = {"1998": FULL, "1999": PARTIAL, "2000": QUARANTINED, "2002": UNOPENED}
    cells = {Cell(18, year): part for year, part in parts.items()}
    page = coverage_html(coverage_grid([progress(cells, {18: "Drama"})]))
    assert re.findall("<title>(Drama.*?)</title>", page) == [
        "Drama 1998: 4 of 4 pages stored, 0 missing",
        "Drama 1999: 1 of 4 pages stored, 3 missing",
        "Drama 2000: 3 of 4 pages stored, 0 missing, 1 in quarantine",
        "Drama 2002: not fetched yet",
    ]
    assert "8 of 13 known pages stored, 3 of 4 cells open, 1 in quarantine" in page
    fills = re.findall(r'height="19" fill="(.*?)"', page)
    assert fills[0] == "#fde725"
    assert fills[3] == "url(#unknown)"
    assert len(set(fills)) == 4
    assert UNKNOWN not in fills


def test_large_chart_fits_a_screen_and_needs_no_network() -> None:
    page = coverage_html(large())
    width, height = re.findall(r'<svg width="(\d+)" height="(\d+)"', page)[0]
    assert (int(width) < 1280, int(height) < 500) == (True, True)
    assert page.count("<g>") == 19 * 130
    assert "Genre &lt;3&gt;" in page
    assert "http" not in page
    assert "<script" not in page


def test_latest_backfill_of_a_cell_counts() -> None:
    cell = Cell(18, "1999")
    newer = progress({cell: PARTIAL}, {18: "Drama"})
    older = progress({cell: FULL}, {18: "Drama", 35: "Comedy"})
    grid = coverage_grid([newer, older])
    assert grid.at(18, 1999) == PARTIAL
    assert list(grid.genres.values()) == ["Comedy", "Drama"]
    assert grid.at(35, 1999) is None


def test_png_is_written(tmp_path: Path) -> None:
    write(tmp_path / "map.png", coverage_png(large()))
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


def test_nothing_to_draw_and_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        coverage_grid([])
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        write(tmp_path / "no" / "map.html", b"")


def test_only_png_needs_matplotlib() -> None:
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from producer.cli import genres, status\n"
        "from pathlib import Path\n"
        "try:\n    genres.write_pairs_png(genres.Tally(), {}, Path('x.png'))\n"
        "except Exception as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50
    )
    assert run.stdout == "--png needs matplotlib: pip install 'reelhaul[pictures]'\n"
