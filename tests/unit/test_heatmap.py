"""The picture of what is stored: readable when large, honest about what is not known, whole or absent."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producer.charts.coverage_html import UNKNOWN, Grid, grid, html, write, write_html
from producer.charts.coverage_png import draw
from producer.coverage import Coverage
from producer.enqueue import Backfill
from producer.progress import Progress
from worker.errors import UsageError
from worker.keys import Cell

AT = datetime(2026, 1, 1, tzinfo=UTC)
FULL, PART, LOST, SHUT = (
    Coverage(1, 1, 4, 4),
    Coverage(1, 1, 4, 1),
    Coverage(1, 1, 4, 3, 1),
    Coverage(1, 0, 1, 0),
)


def progress(cells: dict[Cell, Coverage], genres: dict[int, str]) -> Progress:
    years = tuple(sorted({int(cell.window) for cell in cells}))
    return Progress(Backfill(genres, years, None, AT), Coverage(), {}, {}, cells, 0)


def large() -> Grid:
    genres = {number: f"Genre <{number}>" for number in range(19)}
    parts = [FULL, PART, LOST, SHUT]
    cells = {Cell(g, str(y)): parts[(g + y) % 4] for g in genres for y in range(1896, 2026)}
    return grid([progress(cells, genres)])


def test_each_cell_tells_its_counts() -> None:
    cells = {Cell(18, "1998"): FULL, Cell(18, "1999"): PART, Cell(18, "2000"): LOST, Cell(18, "2002"): SHUT}
    page = html(grid([progress(cells, {18: "Drama"})]))
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


def test_a_large_one_fits_a_screen_and_needs_no_network() -> None:
    page = html(large())
    width, height = re.findall(r'<svg width="(\d+)" height="(\d+)"', page)[0]
    assert (int(width) < 1280, int(height) < 500) == (True, True)
    assert page.count("<g>") == 19 * 130
    assert "Genre &lt;3&gt;" in page
    assert "http" not in page
    assert "<script" not in page


def test_the_latest_backfill_with_a_cell_is_believed() -> None:
    cell = Cell(18, "1999")
    newer, older = progress({cell: PART}, {18: "Drama"}), progress({cell: FULL}, {18: "Drama", 35: "Comedy"})
    seen = grid([newer, older])
    assert seen.at(18, 1999) == PART
    assert list(seen.genres.values()) == ["Comedy", "Drama"]
    assert seen.at(35, 1999) is None


def test_png_and_html_are_files(tmp_path: Path) -> None:
    write(tmp_path / "map.png", draw(large()))
    write_html(large(), tmp_path / "map.html")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.html", "map.png"]


def test_nothing_to_draw_and_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        grid([])
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        write_html(large(), tmp_path / "no" / "map.html")


def test_matplotlib_is_asked_for_only_by_those_who_want_it() -> None:
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from pathlib import Path\n"
        "from producer import reporting\n"
        "try:\n    reporting._write_png(None, Path('x.png'))\n"
        "except Exception as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50
    )
    assert run.stdout == "--png needs matplotlib: pip install 'reelhaul[pictures]'; --html does not\n"
