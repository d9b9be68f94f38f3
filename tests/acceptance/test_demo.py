"""`reelhaul demo`: a whole backfill on an empty machine, and nothing left of it."""

import json
import signal
from pathlib import Path

import pytest

from tests.support.stage import Stage, marked_processes, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(150)]

KEYS = [
    *("pages_planned", "pages_stored", "missing", "movies"),
    *("requests", "refused", "limit_utilisation", "seconds"),
]


@pytest.fixture
def scratch(stage: Stage) -> Path:
    """The folder of the demo's temporary files, by which its processes are found."""
    folder = stage.folder / "scratch"
    folder.mkdir()
    stage.environment["TMPDIR"] = str(folder)
    return folder


def assert_nothing_is_left(scratch: Path) -> None:
    wait_for(lambda: not marked_processes(scratch))
    for name in ("demo", "redis", "mongodb", "emulator"):
        assert list(scratch.glob(f"reelhaul-{name}-*")) == []


def test_its_figures_are_consistent(stage: Stage, scratch: Path) -> None:
    ended = stage.reelhaul("demo", "--json", "--rate", "60")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert list(figures) == KEYS
    assert (figures["missing"], figures["refused"]) == (0, 0)
    assert figures["pages_stored"] == figures["pages_planned"] > 500
    assert figures["requests"] >= figures["pages_stored"]
    assert figures["movies"] > 5000
    assert 0 < figures["limit_utilisation"] <= 1.0
    assert figures["seconds"] > 0
    # It uses its own servers, not those in the environment.
    assert list(stage.database["pages"].find()) == []
    assert_nothing_is_left(scratch)


def test_a_catalogue_from_a_file(stage: Stage, scratch: Path) -> None:
    movies = [
        {"id": 1, "genre_ids": [18, 35], "release_date": "1999-12-31", "surplus": {"kept": [1, 2.5]}},
        {"id": 2, "genre_ids": [18], "release_date": "2000-01-01"},
        {"id": 3, "genre_ids": [18], "release_date": ""},
        {"id": 4, "genre_ids": [], "release_date": "2000-01-01"},
        {"id": 5},
    ]
    path = stage.folder / "movies.jsonl"
    path.write_text("\n\n".join(map(json.dumps, movies)))
    ended = stage.reelhaul("demo", "--json", "--catalog", str(path))
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert (figures["missing"], figures["refused"], figures["movies"]) == (0, 0, 2)
    assert figures["pages_stored"] == 19 * 2
    assert_nothing_is_left(scratch)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_runs_on_after_an_interrupt(stage: Stage, scratch: Path, signum: signal.Signals) -> None:
    demo = stage.begin("demo", "--rate", "20")
    wait_for(lambda: "emulated TMDB at" in demo.log_text(), watching=[demo])
    assert len(marked_processes(scratch)) > 4
    demo.send(signum)
    status = demo.wait(60)
    assert status == (-signum if signum == signal.SIGKILL else 130), demo.log_text()
    assert "Traceback" not in demo.log_text()
    if signum == signal.SIGKILL:
        wait_for(lambda: not marked_processes(scratch))
    else:
        assert_nothing_is_left(scratch)
