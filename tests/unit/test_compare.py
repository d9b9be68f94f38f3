"""The comparison with peers: its arithmetic, and the README's table."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare.catalogue import Catalogue
from benchmarks.compare.process_tree import Usage, cpu_s, peak_mb, tree
from benchmarks.compare.tables import BEGIN, END, medians, ratios, section, with_section
from tests.support.stage import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kept() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "docs/benchmarks/peers.json").read_text())
    return document


def test_the_readme_shows_what_was_measured(kept: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text()
    assert with_section(readme, kept) == readme, "run `make bench-readme`"


def test_the_section_follows_the_figures(kept: dict[str, Any]) -> None:
    readme = with_section(f"before\n{BEGIN}\nold\n{END}\nafter", kept)
    kept["full_speed"][0]["pages_per_s"] += 1
    changed = with_section(readme, kept)
    assert changed != readme
    assert changed == f"before\n{BEGIN}\n{section(kept)}\n{END}\nafter"


def test_a_readme_without_the_comments_is_refused(kept: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected the comments"):
        with_section("no table", kept)


def test_rows_are_medians_and_a_flag_holds_only_if_it_always_held() -> None:
    runs = [{"pages_per_s": value, "complete": value != 30.0} for value in (10.0, 30.0, 11.0)]
    row = {"label": "aiohttp", "pages_per_s": 11.0, "complete": False, "runs": 3}
    assert medians("aiohttp", runs) == row


def test_ratios_have_a_bound_and_leave_out_who_was_not_run() -> None:
    ours = [
        {"label": "Reelhaul, threads", "client_ms": 3.0, "pages_per_s": 90.0},
        {"label": "Reelhaul, 2 workers", "client_ms": 3.0, "pages_per_s": 100.0},
    ]
    assert ratios([*ours, {"label": "Scrapy", "client_ms": 4.0, "pages_per_s": 50.0}]) == {
        "cpu_by_scrapy": {"value": 0.75, "bound": 0.5, "kept": False},
        "speed_by_scrapy": {"value": 2.0, "bound": 1.5, "kept": True},
    }


def test_no_movie_is_on_two_pages_and_a_page_has_about_13_kb() -> None:
    catalogue = Catalogue(2, 3)
    movies = list(catalogue.movies())
    assert len({movie["id"] for movie in movies}) == 20 * len(catalogue.keys) == 120
    assert {movie["release_date"][:4] for movie in movies} == {"1950", "1951"}
    assert 12_000 < len(json.dumps(movies[:20])) < 16_000


def test_the_cpu_of_a_child_counts_and_outlives_it() -> None:
    """A shell that waits for a child which works."""
    work = f"{sys.executable} -c 'while True: pass'; true"
    with subprocess.Popen(["sh", "-c", work], start_new_session=True) as shell:
        try:
            wait_for(lambda: len(tree([shell.pid])) == 2)
            usage = Usage(tree([shell.pid]))
            wait_for(lambda: sampled_cpu_s(usage) > 0.2)
            assert cpu_s(shell.pid) < 0.1
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
    usage.sample()
    assert usage.cpu_s > 0.2
    assert usage.peak_mb > 1
    assert peak_mb(shell.pid) == cpu_s(shell.pid) == 0


def sampled_cpu_s(usage: Usage) -> float:
    usage.sample()
    return usage.cpu_s
