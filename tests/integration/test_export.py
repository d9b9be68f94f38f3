"""The export: files that a strict JSON parser reads, whatever is stored; the same rows in every format."""

import gzip
import json
import math
import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from producer.export import parse_format, write_lines
from producer.tables import write_table
from reelhaul.schema import Layout
from worker.errors import UsageError
from worker.storage.database import Storage
from worker.storage.selection import Selection

AT = datetime(2026, 5, 1, tzinfo=UTC)
MOVIES: list[dict[str, Any]] = [
    {"_id": 1, "id": 1, "title": 'Commas, "quotes"\nand lines', "genre_ids": [18, 28], "release_date": ""},
    {"_id": 2, "id": 2, "title": "", "genre_ids": [], "release_date": "1999-03-31", "vote_average": 7},
    {"_id": 3, "id": 3, "title": None, "vote_average": 7.2, "_meta": {"fetched_at": AT}},
]
NAMES = {18: "Drama", 28: "Action"}


def reject_constant(word: str) -> NoReturn:
    raise AssertionError(f"{word} is not JSON")


def test_an_infinity_or_nan_is_exported_as_null(storage: Storage, tmp_path: Path) -> None:
    """They are not saved any more, but an older version or somebody else may have stored them."""
    odd = {"popularity": math.inf, "deep": [{"n": math.nan}, -math.inf, 1.5], "title": "x"}
    storage.movies.collection.insert_many(
        [{"_id": 1, "id": 1, **odd}, {"_id": 2, "id": 2, "popularity": 2.5}]
    )
    assert write_lines(storage.movies.each(), tmp_path / "movies.jsonl") == 2
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
        write_lines(storage.movies.each(), tmp_path / place)
    assert "cannot be written" in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder.jsonl"]


@pytest.mark.parametrize(
    "name", ["movies", "movies.txt", "movies.gz", "movies.parquet.gz", ".csv", "a.csv.xz"]
)
def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UsageError, match=r"expected a file that ends in \.parquet, \.arrow, \.csv or \.jsonl"
    ):
        parse_format(tmp_path / name)


def read(path: Path) -> list[Any]:
    """The file's rows."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
    elif path.suffix == ".arrow":
        table = pa.ipc.open_file(path).read_all()
    else:
        convert = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        parse = csv.ParseOptions(newlines_in_values=True)
        table = csv.read_csv(pa.input_stream(path), convert_options=convert, parse_options=parse)
    return list(table.to_pylist())


COLUMNS = ["id", "title", "release_date", "genre_ids", "genres", "vote_average"]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".csv.gz"])
def test_every_format_holds_the_same_rows_and_the_same_bytes_each_time(tmp_path: Path, suffix: str) -> None:
    layout, paths = Layout(COLUMNS, names=NAMES), [tmp_path / f"{n}{suffix}" for n in (1, 2)]
    for path in paths:
        batches = (layout.batch([movie]) for movie in MOVIES)
        assert write_table(batches, layout.schema, path) == 3
    assert paths[0].read_bytes() == paths[1].read_bytes()
    lists: list[Any] = [[18, 28], ["Drama", "Action"], []]
    if ".csv" in suffix:
        lists = ["[18,28]", '["Drama","Action"]', "[]"]
    assert [tuple(row.values()) for row in read(paths[0])] == [
        (1, 'Commas, "quotes"\nand lines', None, *lists[:2], None),
        (2, "", date(1999, 3, 31), lists[2], lists[2], 7.0),
        (3, None, None, None, None, 7.2),
    ]


def test_zstd_compresses_the_same_text(tmp_path: Path) -> None:
    layout = Layout(COLUMNS, names=NAMES)
    for name in ("a.csv", "a.csv.zst"):
        write_table([layout.batch(MOVIES)], layout.schema, tmp_path / name)
    write_lines(MOVIES, tmp_path / "a.jsonl")
    write_lines(MOVIES, tmp_path / "a.jsonl.zst")
    write_lines(MOVIES, tmp_path / "a.jsonl.gz")
    for name in ("a.csv", "a.jsonl"):
        with pa.input_stream(tmp_path / f"{name}.zst", compression="zstd") as file:
            assert file.read() == (tmp_path / name).read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == (tmp_path / "a.jsonl").read_bytes()


def test_no_movie_gives_a_file_with_columns_and_no_rows(tmp_path: Path) -> None:
    layout = Layout(["id", "title"])
    for suffix in (".parquet", ".arrow"):
        path = tmp_path / f"movies{suffix}"
        assert write_table([], layout.schema, path) == 0
        assert path.stat().st_size > 0
        assert read(path) == []
    write_table([], layout.schema, tmp_path / "movies.csv")
    assert (tmp_path / "movies.csv").read_text() == '"id","title"\n'


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root and the right to do so")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "suffix", [".parquet", ".arrow", ".csv", ".csv.gz", ".csv.zst", ".jsonl", ".jsonl.gz"]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path, suffix: str) -> None:
    chance = random.Random(1)  # noqa: S311 -- text that does not compress, no secret
    layout = Layout(["id", "overview"])
    movies = [{"_id": n, "id": n, "overview": chance.randbytes(200).hex()} for n in range(1, 8_000)]

    def write(target: Path) -> None:
        if parse_format(target).is_raw:
            write_lines(movies, target)
        else:
            write_table((layout.batch(movies) for _ in range(3)), layout.schema, target)

    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        write(small_disk / f"movies{suffix}")
    assert list(small_disk.iterdir()) == []


def test_lines_of_a_selection(storage: Storage, tmp_path: Path) -> None:
    storage.movies.create_read_index()
    storage.movies.collection.insert_many(MOVIES)
    drama = storage.movies.each(Selection((18,), None, None))
    assert write_lines(drama, tmp_path / "movies.jsonl") == 1
    assert [movie["_id"] for movie in storage.movies.each(Selection(years=(1998, 1999)))] == [2]
    assert [movie["_id"] for movie in storage.movies.each(Selection(since=AT))] == [3]
    assert [movie["_id"] for movie in storage.movies.in_order([3, 9, 1])] == [3, 1]
