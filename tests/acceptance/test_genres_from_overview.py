"""examples/genres_from_overview.py: it learns what can be learnt, and says so in figures and in a picture."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.emulator.synthetic import synthetic_movies
from tests.support.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT.parent / "shared" / "data" / "tmdb5000.jsonl.gz"
PNG = b"\x89PNG\r\n\x1a\n"

pytestmark = pytest.mark.acceptance


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the example to its end; warnings are errors."""
    command = [sys.executable, "-W", "error", ROOT / "examples" / "genres_from_overview.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def figures(folder: Path, source: Path) -> dict[str, Any]:
    ended = run(folder, source, "--json")
    assert ended.returncode == 0, ended.stderr
    assert (folder / "genres_from_overview.png").read_bytes().startswith(PNG)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 of the emulator's movies, whose overviews hold words of their genres."""
    file = tmp_path_factory.mktemp("synthetic") / "movies.jsonl"
    file.write_bytes(b"".join(movie.raw + b"\n" for movie in synthetic_movies(1_000, 1)))
    return file


def test_the_emulators_movies_are_learnt_almost_wholly(synthetic: Path, tmp_path: Path) -> None:
    found = figures(tmp_path, synthetic)
    assert sum(found["movies"].values()) <= 1_000
    assert found["micro_f1"]["model"] > 0.9 > found["micro_f1"]["baseline"]
    assert found["macro_f1"]["model"] > 0.8 > found["macro_f1"]["baseline"]
    of_baseline = [genre["name"] for genre in found["genres"] if genre["baseline"]]
    assert of_baseline == found["baseline_genres"]


def test_figures_are_printed_as_a_table_and_drawn(synthetic: Path, tmp_path: Path) -> None:
    ended = run(tmp_path, synthetic, "--png", "f1.png")
    assert ended.returncode == 0, ended.stderr
    for name in ("micro", "macro", "Drama", "Science Fiction"):
        assert re.search(rf"^{name} .* [01]\.\d{{3}} +[01]\.\d{{3}}$", ended.stdout, re.MULTILINE), (
            ended.stdout
        )
    assert (tmp_path / "f1.png").read_bytes().startswith(PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["f1.png"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ('{"id": 1, "genre_ids": [18], "overview": "a"}\n{"id": 2}\n', "line 2: not a movie"),
        ('{"id": 1, "genre_ids": [18], "overview": "a"}\n', "too few movies: 0 to train, 1 to test"),
        ('{"id": 1, "genre_ids": [18], "overview": ""}\n', "none of the movies has an overview"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, content: str | None, reason: str) -> None:
    source = tmp_path / "movies.jsonl"
    if content is not None:
        source.write_text(content)
    ended = run(tmp_path, source)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("genres_from_overview: "), ended.stderr
    assert reason in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.timeout(120)
def test_it_takes_what_the_command_writes(stage: Stage) -> None:
    stage.emulator("--movies", "1500")
    stage.worker()
    ended = stage.reelhaul("backfill", "--by", "date", "--years", "1900..2031")
    assert ended.returncode == 0, ended.stderr
    ended = stage.reelhaul("export", "--training-set", "movies-by-genre")
    assert ended.returncode == 0, ended.stderr
    found = figures(stage.folder, stage.folder / "movies-by-genre")
    assert found["micro_f1"]["model"] > 0.9 > found["micro_f1"]["baseline"]
    assert {"Drama", "TV Movie"} <= {genre["name"] for genre in found["genres"]}


@pytest.mark.skipif(not CATALOGUE.is_file(), reason="needs the catalogue ../shared/data/tmdb5000.jsonl.gz")
@pytest.mark.timeout(120)
def test_real_overviews_predict_genres_better_than_by_hand(tmp_path: Path) -> None:
    """0.546 was reached by hand, with this project's JSON Lines."""
    started = time.monotonic()
    found = figures(tmp_path, CATALOGUE)
    assert time.monotonic() - started < 60
    assert sum(found["movies"].values()) == 4_799, "4 of 4,803 have no overview"
    assert found["genres_left_out"] == []
    assert found["micro_f1"]["model"] >= 0.55
    for average in ("micro_f1", "macro_f1"):
        assert found[average]["model"] > found[average]["baseline"] + 0.1
