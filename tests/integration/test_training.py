"""`reelhaul export --training-set`: the stored movies as a training set, by the real command."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reelhaul.training import is_test
from tests.support.stage import Stage
from worker.storage.database import Storage

FETCHED = datetime(2026, 10, 1, tzinfo=UTC)


def movie(id_: int, *genre_ids: Any, **changes: Any) -> dict[str, Any]:
    """A stored movie with an overview of its own."""
    item = {"id": id_, "title": f"Title {id_}", "overview": f"Overview {id_}", "genre_ids": [*genre_ids]}
    return {"_id": id_, **item, "_meta": {"fetched_at": FETCHED}, **changes}


def store(storage: Storage, *movies: dict[str, Any]) -> None:
    storage.movies.collection.insert_many(movies)
    storage.genres.save({18: "Drama", 37: "Western"}, FETCHED)


def rows(target: Path) -> dict[int, dict[str, Any]]:
    """The rows of both sides by id; each is on its side."""
    found = {}
    for side in ("train", "test"):
        for row in pq.read_table(target / f"{side}.parquet").to_pylist():
            assert is_test(row["id"]) == (side == "test")
            found[row.pop("id")] = row
    return found


def test_the_command_writes_what_is_stored(stage: Stage, storage: Storage) -> None:
    movies = [movie(id_, *([18] if id_ % 3 else [37, 10769])) for id_ in range(1, 2_501)]
    odd = [
        movie(3_000, 18, overview=""),
        movie(3_001, 18, overview="overview  7"),
        movie(3_002, 18, _meta={"fetched_at": FETCHED, "gone_at": FETCHED}),
    ]
    store(storage, *movies, *odd)
    ended = stage.reelhaul("export", "--training-set", "movies-by-genre")
    assert ended.returncode == 0, ended.stderr
    written = rows(stage.folder / "movies-by-genre")
    assert written == {
        movie["id"]: {
            "title": movie["title"],
            "overview": movie["overview"],
            "Drama": 18 in movie["genre_ids"],
            "Western": 37 in movie["genre_ids"],
            "genre 10769": 10769 in movie["genre_ids"],
        }
        for movie in movies
    }
    tested = sum(map(is_test, written))
    assert ended.stdout == (
        f"{2_500 - tested:,} movies to train, {tested:,} to test written to movies-by-genre; "
        "left out: 1 without overview, 1 duplicate\n"
    )
    readme = (stage.folder / "movies-by-genre" / "README.md").read_text(encoding="utf-8")
    assert f"Written by Reelhaul on {datetime.now(UTC).date()}." in readme
    assert "fetched on 2026-10-01: fetch again, or delete this, by 2027-03-30." in readme


def test_fields_of_another_type_than_tmdbs_stop_nothing(stage: Stage, storage: Storage) -> None:
    store(
        storage,
        movie(1, "18", None, True, 18, title=None),
        movie(2, genre_ids=None),
        movie(3, 18, overview=5),
        movie(4, 37, _meta={}),
    )
    ended = stage.reelhaul("export", "--training-set", "set")
    assert "left out: 1 without overview" in ended.stdout, ended.stderr
    written = rows(stage.folder / "set")
    genres = {id_: [name for name in row if row[name] is True] for id_, row in written.items()}
    assert genres == {1: ["Drama"], 2: [], 4: ["Western"]}


def test_no_overview_is_one_line_and_leaves_nothing(stage: Stage, storage: Storage) -> None:
    nothing = stage.reelhaul("export", "--training-set", "set")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)
    store(storage, movie(1, 18, overview=""))
    ended = stage.reelhaul("export", "--training-set", "set")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "no movie with an overview is stored" in ended.stderr
    assert not (stage.folder / "set").exists()


def test_only_some_genres_and_years(stage: Stage, storage: Storage) -> None:
    store(storage, *(movie(id_, 18 if id_ % 2 else 37, release_date="1999-05-01") for id_ in range(1, 40)))
    ended = stage.reelhaul("export", "--training-set", "set", "--genres", "Drama", "--years", "1999")
    assert ended.returncode == 0, ended.stderr
    assert set(rows(stage.folder / "set")) == set(range(1, 40, 2))


@pytest.mark.parametrize("place", ["file.txt", "file.txt/set", "folder", "x" * 300])
def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_nothing(
    stage: Stage, storage: Storage, place: str
) -> None:
    store(storage, movie(1, 18))
    (stage.folder / "file.txt").write_text("no folder")
    (stage.folder / "folder").mkdir()
    (stage.folder / "folder" / "thesis.txt").write_text("precious")
    before = sorted(stage.folder.rglob("*"))
    ended = stage.reelhaul("export", "--training-set", place)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"reelhaul: {place}: cannot be written: ")
    assert ended.stderr.count("\n") == 1
    assert sorted(stage.folder.rglob("*")) == before


@pytest.mark.parametrize("arguments", [[], ["movies.jsonl", "--training-set", "set"]])
def test_a_file_or_a_folder_is_needed_and_not_both(stage: Stage, arguments: list[str]) -> None:
    ended = stage.reelhaul("export", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "reelhaul: export: expected a FILE or --training-set DIR, one of them\n"
    assert not (stage.folder / "set").exists()
