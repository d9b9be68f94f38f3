"""`reelhaul standalone` chooses a MongoDB."""

from pathlib import Path

import pytest

from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, Mongod
from sandbox.standalone import choose_mongo


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where PATH would find a `mongod`; there is none yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder / "mongod"


def install(program: Path) -> None:
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)


def test_without_mongod_it_is_the_embedded_one(program: Path, tmp_path: Path) -> None:
    assert not program.exists()
    server, title = choose_mongo(tmp_path)
    assert server is EmbeddedMongo
    assert title == "an embedded MongoDB (SecantusDB, a beta; no mongod is on PATH)"


def test_mongod_on_path_is_preferred(program: Path, tmp_path: Path) -> None:
    install(program)
    assert choose_mongo(tmp_path) == (Mongod, str(program))


def test_the_server_whose_data_is_there_is_kept(program: Path, tmp_path: Path) -> None:
    install(program)
    (tmp_path / "mongodb" / "storage").mkdir(parents=True)
    server, title = choose_mongo(tmp_path)
    assert server is EmbeddedMongo
    assert f"{tmp_path / 'mongodb'} holds its data" in title
    (tmp_path / "mongod" / "storage").mkdir(parents=True)
    assert choose_mongo(tmp_path)[0] is Mongod


def test_data_of_a_mongod_that_is_gone_is_not_hidden(program: Path, tmp_path: Path) -> None:
    assert not program.exists()
    (tmp_path / "mongod" / "storage").mkdir(parents=True)
    with pytest.raises(
        SandboxError, match="no mongod is on PATH: put it on PATH, or choose another --folder"
    ):
        choose_mongo(tmp_path)
