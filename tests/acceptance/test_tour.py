"""examples/tour.md: every command and every line of Python in it runs, in order, against the sandbox."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stage import Stage

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

TOUR = (Path(__file__).parents[2] / "examples" / "tour.md").read_text(encoding="utf-8")
URL = "mongodb://127.0.0.1:27017/reelhaul"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TOUR, re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]


def lines_of_python() -> list[str]:
    return [line for block in blocks("python") for line in block.splitlines() if line]


def test_the_tour_has_ten_commands_and_twenty_lines() -> None:
    assert len(commands()) == 10
    assert len(lines_of_python()) == 20


def test_the_tour_runs(stage: Stage) -> None:
    server = stage.emulator("--movies", "6000")
    stage.worker()
    some = max(server.movies().values(), key=lambda movie: len(movie["overview"]))
    server.change_movies(upsert=[{**some, "id": 603, "title": "The Matrix", "release_date": "1999-03-31"}])
    said = {}
    for reelhaul, *arguments in commands():
        assert reelhaul == "reelhaul"
        ended = stage.reelhaul(*arguments)
        assert (ended.returncode, ended.stderr) == (0, ""), arguments
        said[" ".join(arguments[:2])] = ended.stdout
    assert "603" in said["movie The Matrix"]
    assert len(json.loads(said["movie 603"])) >= 25
    assert "50 of 50 pages stored" in said["popular --pages"]
    assert "Drama" in said["genres --pairs"]
    assert "every page stored" in said["verify"]
    assert URL in TOUR
    script = stage.folder / "tour.py"
    script.write_text("\n".join(lines_of_python()).replace(URL, stage.mongo_url), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd=stage.folder,
        env=stage.environment | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\n") >= 11
    assert float(ran.stdout.rpartition("micro-F1: ")[2]) > 0
    for name in ("pairs.png", "genres-by-year.png"):
        assert (stage.folder / name).read_bytes().startswith(b"\x89PNG")
    assert (stage.folder / "movies.parquet").read_bytes().startswith(b"PAR1")
