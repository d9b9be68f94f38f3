"""A run folder that others may write to: no process starts, reads it or writes to it."""

import shelve
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.embedded import free_port
from tests.support.stage import PATIENCE_S, Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

CELERY = (sys.executable, "-m", "celery", "-A")
REELHAUL = (sys.executable, "-c", "from producer.cli.main import main; main()")
PROCESSES = {
    "worker": (*CELERY, "worker.app", "worker", "--without-gossip", "--without-mingle"),
    "prefork worker": (*CELERY, "worker.app", "worker", "--pool", "prefork", "-c", "1"),
    "beat": (*CELERY, "producer.schedule", "beat"),
    "flower": (*CELERY, "worker.app", "flower"),
    "health": (*REELHAUL, "health", "worker"),
    "backfill": (*REELHAUL, "backfill", "--genres", "all", "--years", "2020"),
}


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def plant(folder: Path, bomb: Path) -> None:
    """Write the database that Flower unpickles when it starts."""
    with shelve.open(str(folder / "flower.db")) as state:  # noqa: S301 -- written, never read
        state["events"] = Bomb(bomb)


@pytest.fixture
def open_folder(stage: Stage) -> Path:
    """The stage's run folder, writable by everybody."""
    folder = Path(stage.environment["REELHAUL_RUN_FOLDER"])
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.mark.parametrize("name", PROCESSES)
def test_nothing_starts_on_a_folder_that_others_may_write_to(
    stage: Stage, open_folder: Path, tmp_path: Path, name: str
) -> None:
    stage.environment["TMDB_BASE_URL"] = f"http://127.0.0.1:{free_port()}/3"
    plant(open_folder, tmp_path / "exploded")
    before = sorted(open_folder.iterdir())
    process = stage.start(*PROCESSES[name])
    wait_for(lambda: not process.running or sorted(open_folder.iterdir()) != before)
    assert sorted(open_folder.iterdir()) == before
    assert process.wait(PATIENCE_S) == 2, process.log_tail()
    [line] = [line for line in process.log_text().splitlines() if "run folder" in line]
    assert f"run folder {open_folder}: others may write to it" in line
    assert "REELHAUL_RUN_FOLDER" in line
    assert "Traceback" not in process.log_text()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("how", ["--db", "FLOWER_DB", "in the run folder"])
def test_flower_reads_no_database_that_others_may_write_to(stage: Stage, tmp_path: Path, how: str) -> None:
    run_folder = Path(stage.environment["REELHAUL_RUN_FOLDER"])
    folder = run_folder if how == "in the run folder" else tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    plant(folder, tmp_path / "exploded")
    options = [f"--db={folder / 'flower.db'}"] if how == "--db" else []
    if how == "FLOWER_DB":
        stage.environment["FLOWER_DB"] = str(folder / "flower.db")
    # dbm may add a suffix to the name, depending on how Python was built.
    for file in folder.iterdir():
        file.chmod(0o666)
    process = stage.start(*PROCESSES["flower"], f"--port={free_port()}", *options)
    wait_for(lambda: not process.running or (tmp_path / "exploded").exists())
    assert not (tmp_path / "exploded").exists()
    assert process.wait(PATIENCE_S) == 2, process.log_tail()
    assert "others may write to it" in process.log_text()
