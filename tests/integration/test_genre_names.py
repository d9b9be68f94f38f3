"""Names of genres: requested when they are missing or old, and never a reason for a command to fail."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from producer.cli.genre_names import GENRES_AGE, current_genres, genre_name, known_genres
from sandbox.embedded import free_port
from sandbox.servers import EmulatorProcess
from worker.clients import clear_cached_clients, close_api_client, database, limiter
from worker.errors import UsageError
from worker.settings import settings
from worker.storage.database import Storage
from worker.storage.mongo import own_now


@pytest.fixture
def tmdb(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    redis_url: str,
    mongo_url: str,
    emulator: Callable[..., EmulatorProcess],
) -> Iterator[EmulatorProcess]:
    """An emulated TMDB that this process' settings name."""
    server = emulator("--movies", "10")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "TMDB_TOKEN": "a-token-of-nobody",
        "TMDB_API_KEY": "",
        "TMDB_BASE_URL": server.base_url,
        "REDIS_URL": redis_url,
        "MONGO_URL": mongo_url,
        "REELHAUL_RUN_FOLDER": str(tmp_path / "run"),
    }.items():
        monkeypatch.setenv(name, value)
    _forget()
    yield server
    _forget()


def _forget() -> None:
    """Close this process' clients; new ones read the environment anew."""
    settings.cache_clear()
    if database.built is not None:
        database.built.client.close()
    close_api_client()
    clear_cached_clients()


def requests(server: EmulatorProcess) -> int:
    return sum("genre" in str(row) for row in server.log())


def stored(storage: Storage, days: int, **names: str) -> None:
    """Store `g28="Name"` as of so many days ago."""
    genres = {int(id_[1:]): name for id_, name in names.items()}
    storage.genres.save(genres, own_now() - timedelta(days=days))


@pytest.mark.parametrize("names", [known_genres, current_genres])
def test_names_are_requested_when_missing_or_old_and_only_then(
    tmdb: EmulatorProcess, storage: Storage, names: Callable[[], dict[int, str]]
) -> None:
    assert names()[28] == "Action"
    assert requests(tmdb) == 1
    assert len(names()) == 19
    assert requests(tmdb) == 1
    storage.genres.collection.update_many({}, {"$set": {"name": "Old", "fetched_at": own_now() - GENRES_AGE}})
    assert names()[28] == "Action"
    assert requests(tmdb) == 2


def test_a_genre_that_tmdb_dropped_is_shown_but_not_planned(tmdb: EmulatorProcess, storage: Storage) -> None:
    stored(storage, 300, g10769="Foreign")
    assert 10769 not in current_genres()
    assert known_genres()[10769] == "Foreign"
    assert requests(tmdb) == 1


def test_without_a_key_what_is_stored_is_shown(
    tmdb: EmulatorProcess,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "")
    settings.cache_clear()
    assert known_genres() == {}
    stored(storage, 300, g28="Action")
    assert known_genres() == {28: "Action"}
    assert [genre_name(id_, known_genres()) for id_ in (28, 5)] == ["Action", "genre 5"]
    assert capsys.readouterr().err == ""
    assert tmdb.stats()["arrivals"] == 0
    with pytest.raises(UsageError, match="no TMDB key"):
        current_genres()


def test_an_unanswered_request_is_one_line_and_no_error(
    tmdb: EmulatorProcess,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("producer.cli.genre_names.SHORT_PATIENCE_S", 1.0)
    stored(storage, 300, g28="Action")
    for name, value in (
        ("TMDB_TOKEN", "wrong-token-of-nobody"),
        ("TMDB_BASE_URL", f"http://127.0.0.1:{free_port()}/3"),
        ("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0"),
    ):
        monkeypatch.setenv(name, value)
        _forget()
        assert known_genres() == {28: "Action"}
        printed = capsys.readouterr().err
        assert printed.startswith("names of genres are not up to date: ")
        assert printed.count("\n") == 1
    assert requests(tmdb) == 0


@pytest.mark.usefixtures("tmdb")
def test_a_wrong_key_does_not_stop_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "wrong-token-of-nobody")
    _forget()
    assert known_genres() == {}
    assert not limiter().state().stopped
