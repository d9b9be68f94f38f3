"""The export: files that a strict JSON parser reads, whatever is stored."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import pymongo
import pytest

from producer.export import export_movies
from worker.errors import UsageError
from worker.storage.database import Storage


def reject_constant(word: str) -> NoReturn:
    raise AssertionError(f"{word} is not JSON")


@pytest.fixture
def storage(mongo_url: str) -> Any:
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongo_url, tz_aware=True) as client:
        yield Storage(client.get_default_database())


def test_an_infinity_or_nan_is_exported_as_null(storage: Storage, tmp_path: Path) -> None:
    """They are not saved any more, but an older version or somebody else may have stored them."""
    odd = {"popularity": math.inf, "deep": [{"n": math.nan}, -math.inf, 1.5], "title": "x"}
    storage.movies.collection.insert_many(
        [{"_id": 1, "id": 1, **odd}, {"_id": 2, "id": 2, "popularity": 2.5}]
    )
    assert export_movies(storage, tmp_path / "movies.jsonl") == 2
    lines = (tmp_path / "movies.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=reject_constant) for line in lines] == [
        {"id": 1, "popularity": None, "deep": [{"n": None}, None, 1.5], "title": "x"},
        {"id": 2, "popularity": 2.5},
    ]


@pytest.mark.parametrize("place", ["file.txt/movies.jsonl", "x" * 300 + ".jsonl", "folder.jsonl"])
def test_a_file_that_cannot_be_written_is_a_usage_error_and_leaves_nothing(
    storage: Storage, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file.txt").write_text("no folder")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"movies\.jsonl|xxx\.jsonl|folder\.jsonl") as raised:
        export_movies(storage, tmp_path / place)
    assert "cannot be written" in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder.jsonl"]
