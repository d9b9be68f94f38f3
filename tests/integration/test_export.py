"""Data out: what a strict JSON parser reads, whatever is stored."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import pymongo
import pytest

from producer.export import export_movies
from worker.errors import UsageError
from worker.storage.database import Storage


def refuse(word: str) -> NoReturn:
    raise AssertionError(f"{word} is not JSON")


@pytest.fixture
def storage(mongo_url: str) -> Any:
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongo_url, tz_aware=True) as client:
        yield Storage(client.get_default_database())


def test_every_line_is_json_though_a_number_is_none_that_json_has(storage: Storage, tmp_path: Path) -> None:
    """Such numbers are refused at the door now; what was stored before, or by others, may hold them."""
    odd = {"popularity": math.inf, "deep": [{"n": math.nan}, -math.inf, 1.5], "title": "x"}
    storage.movies.collection.insert_many(
        [{"_id": 1, "id": 1, **odd}, {"_id": 2, "id": 2, "popularity": 2.5}]
    )
    assert export_movies(storage, tmp_path / "movies.jsonl") == 2
    lines = (tmp_path / "movies.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [
        {"id": 1, "popularity": None, "deep": [{"n": None}, None, 1.5], "title": "x"},
        {"id": 2, "popularity": 2.5},
    ]


@pytest.mark.parametrize("place", ["file.txt/movies.jsonl", "x" * 300 + ".jsonl", "folder.jsonl"])
def test_a_place_that_cannot_be_written_is_one_line(storage: Storage, tmp_path: Path, place: str) -> None:
    (tmp_path / "file.txt").write_text("no folder")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"movies\.jsonl|xxx\.jsonl|folder\.jsonl") as refused:
        export_movies(storage, tmp_path / place)
    assert "cannot be written" in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder.jsonl"]
