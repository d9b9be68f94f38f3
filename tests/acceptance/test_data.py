"""The data back in an analyst's hands: exported, read again, every field compared with TMDB's catalogue."""

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

import reelhaul
from tests.support.comparison import catalogue
from tests.support.stage import Stage

pytestmark = pytest.mark.acceptance

GENRES = {18, 35, 10752}
REQUEST = ("--genres", "Drama,Comedy,War", "--years", "2016..2019")
TMDB5000 = Path(__file__).resolve().parents[3] / "shared" / "data" / "tmdb5000.jsonl.gz"
FIELDS = (
    "id", "title", "original_title", "overview", "original_language", "popularity", "vote_average",
    "vote_count", "adult", "video", "softcore", "poster_path", "backdrop_path",
)  # fmt: skip


def expected_rows(stage: Stage, genre_ids: set[int], years: range) -> list[dict[str, Any]]:
    """What a backfill of these cells stores, as columns, by id."""
    names = {genre["_id"]: genre["name"] for genre in stage.database["genres"].find()}
    return [
        {
            **{name: item.get(name) for name in FIELDS},
            "vote_average": float(item["vote_average"]),
            "popularity": float(item["popularity"]),
            "release_date": date.fromisoformat(item["release_date"]),
            "genre_ids": item["genre_ids"],
            "genres": [names.get(id_, f"genre {id_}") for id_ in item["genre_ids"]],
        }
        for _, item in sorted(catalogue(stage.emulators[0]).items())
        if genre_ids & set(item["genre_ids"]) and item["release_date"][:4] in map(str, years)
    ]


def plain(value: Any) -> Any:
    """A value as Python has it, whichever library read it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(part) for part in value]
    if value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value):  # noqa: PLR0124 -- NaN
        return None
    return value


def read_with_each(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of a Parquet file, by pandas, polars, duckdb and pyarrow."""
    yield "pandas", pd.read_parquet(path).to_dict("records")
    yield "polars", pl.read_parquet(path).to_dicts()
    found = duckdb.read_parquet(str(path))
    yield "duckdb", [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    yield "pyarrow", parquet.read_table(path).to_pylist()


def assert_equal_everywhere(path: Path, expected: list[dict[str, Any]]) -> None:
    for name, rows in read_with_each(path):
        assert len(rows) == len(expected), name
        for row, movie in zip(rows, expected, strict=True):
            got = {field: plain(value) for field, value in row.items() if field != "fetched_at"}
            assert got == movie, name


def run(stage: Stage, *arguments: str, code: int = 0) -> str:
    """What the command printed, on stderr if it is to fail."""
    ended = stage.reelhaul(*arguments)
    assert ended.returncode == code, ended.stderr
    return ended.stderr if code else ended.stdout


def backfill(stage: Stage, *options: str, request: tuple[str, ...] = REQUEST) -> None:
    """Backfill from an emulator with these options."""
    stage.emulator(*options)
    stage.worker()
    run(stage, "backfill", *request, "--quiet")


@pytest.mark.timeout(150)
def test_exported_rows_equal_the_catalogue_in_pandas_polars_and_duckdb(stage: Stage) -> None:
    backfill(stage, "--movies", "3000")
    expected = expected_rows(stage, GENRES, range(2016, 2020))
    assert len(expected) > 100
    assert f"{len(expected):,} movies written to movies.parquet" in run(stage, "export", "movies.parquet")
    assert_equal_everywhere(stage.folder / "movies.parquet", expected)

    run(stage, "export", "again.parquet")
    run(stage, "export", "movies.arrow")
    run(stage, "export", "movies.csv.gz")
    run(stage, "export", "movies.jsonl.zst")
    whole = (stage.folder / "movies.parquet").read_bytes()
    assert whole == (stage.folder / "again.parquet").read_bytes()
    table = parquet.read_table(stage.folder / "movies.parquet")
    assert pa.ipc.open_file(stage.folder / "movies.arrow").read_all() == table
    with gzip.open(stage.folder / "movies.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == [movie["id"] for movie in expected]
    assert [json.loads(row["genres"]) for row in rows] == [movie["genres"] for movie in expected]
    with pa.input_stream(stage.folder / "movies.jsonl.zst", compression="zstd") as lines:
        raw = [json.loads(line) for line in lines.read().splitlines()]
    assert {movie["id"]: movie for movie in raw} == stage.stored_movies()

    run(
        stage,
        "export",
        "war.parquet",
        "--genres",
        "war",
        "--years",
        "2017..2018",
        "--columns",
        "title,id,raw",
    )
    war = parquet.read_table(stage.folder / "war.parquet")
    assert war.schema.names == ["title", "id", "raw"]
    wanted = expected_rows(stage, {10752}, range(2017, 2019))
    assert war["id"].to_pylist() == [movie["id"] for movie in wanted]

    read = reelhaul.movies(stage.mongo_url, genres=["War"], years=range(2017, 2019))
    assert read.num_rows == war.num_rows
    assert len(read.to_pandas()) == len(pl.from_arrow(read)) == read.num_rows
    counted = duckdb.from_arrow(read).aggregate("count(*), count(DISTINCT id)").fetchall()
    assert counted == [(read.num_rows, read.num_rows)]


@pytest.mark.timeout(240)
@pytest.mark.skipif(not TMDB5000.exists(), reason=f"{TMDB5000} is not here")
def test_tmdb5000_equals_its_file_in_pandas_polars_and_duckdb(stage: Stage) -> None:
    stage.environment["REELHAUL_RATE"] = "2000"
    backfill(stage, "--catalog", str(TMDB5000), request=("--genres", "all", "--years", "1910..2020"))
    genre_ids = {genre["_id"] for genre in stage.database["genres"].find()}
    expected = expected_rows(stage, genre_ids, range(1910, 2021))
    assert len(expected) > 4_700  # without those that have neither a date nor one of today's genres
    run(stage, "export", "movies.parquet")
    assert_equal_everywhere(stage.folder / "movies.parquet", expected)


@pytest.mark.timeout(150)
def test_stale_data_agrees_with_fresh_and_is_fetched_on_request(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    backfill(stage, "--movies", "2000")
    monkeypatch.setenv("REELHAUL_RATE", stage.environment["REELHAUL_RATE"])
    wanted: dict[str, Any] = {"genres": ["Drama", "War"], "years": [2016, 2017, 2020]}
    options = ("--genres", "Drama,War", "--years", "2016..2017,2020")
    for age in ("30d", "0s"):
        counted = json.loads(stage.reelhaul("fresh", *options, "--max-age", age, "--json").stdout)
        with pytest.raises(reelhaul.StaleData) as raised:
            reelhaul.movies(stage.mongo_url, **wanted, max_age=age)
        assert raised.value.pages == counted["stale"] > 0
    counted = json.loads(stage.reelhaul("fresh", "--max-age", "30d", "--json").stdout)
    assert counted["stale"] == 0
    stored = stage.database["movies"].estimated_document_count()
    assert reelhaul.movies(stage.mongo_url, max_age="30d").num_rows == stored

    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(stage.folder)
    table = reelhaul.movies(stage.mongo_url, **wanted, max_age="30d", fetch=True)
    rows = [
        row
        for years in (range(2016, 2018), range(2020, 2021))
        for row in expected_rows(stage, {18, 10752}, years)
    ]
    assert table["id"].to_pylist() == sorted(movie["id"] for movie in rows)
    assert "pages stored" in capfd.readouterr().out
    with pytest.raises(reelhaul.FetchFailed, match="unknown genre 'Dramma'"):
        reelhaul.movies(stage.mongo_url, genres="Dramma", years=2016, fetch=True)


def test_bad_input_is_one_line_and_leaves_no_file(stage: Stage) -> None:
    stage.database["genres"].insert_one({"_id": 18, "name": "Drama"})
    stage.database["movies"].insert_one({"_id": 1, "id": 1, "genre_ids": [18], "_meta": {}})
    (stage.folder / "folder.parquet").mkdir()
    for arguments, line in (
        (["movies.xls"], "movies.xls: expected a file that ends in .parquet"),
        (["folder.parquet"], "folder.parquet: cannot be written: it is a folder"),
        (
            ["m.parquet", "--columns", "id,titel"],
            "columns: unknown column 'titel'; expected some of: id, title",
        ),
        (
            ["m.parquet", "--genres", "Dramma"],
            "--genres: unknown genre 'Dramma'; expected all or some of: Drama",
        ),
        (["m.csv", "--years", "soon"], "--years 'soon': expected YEAR or FIRST..LAST"),
        (["m.csv", "--since", "soon"], "--since 'soon': expected a length of time"),
        (["m.csv", "--popular", "5"], "the list of popular movies is not stored yet: `reelhaul popular`"),
        (["m.csv", "--popular", "5", "--years", "1999"], "--popular is a list of its own"),
        (["m.csv", "--details"], "no details are stored yet: `reelhaul details --help`"),
        (["m.jsonl", "--raw"], "m.jsonl: JSON Lines hold whole documents, without --columns and --raw"),
        (["nowhere/m.parquet"], "nowhere/m.parquet: cannot be written: No such file or directory"),
    ):
        error = run(stage, "export", *arguments, code=2)
        assert error.startswith(f"reelhaul: {line}"), error
        assert error.count("\n") == 1, error
    assert [path.name for path in stage.folder.iterdir() if path.name != "run"] == ["folder.parquet"]


def test_popular_and_details_are_exported(stage: Stage) -> None:
    movies: list[dict[str, Any]] = [
        {"_id": n, "id": n, "genre_ids": [18], "title": f"Movie {n}", "_meta": {}} for n in (1, 2, 3)
    ]
    stage.database["movies"].insert_many(movies)
    stage.database["genres"].insert_one({"_id": 18, "name": "Drama"})  # else it would be asked for
    stage.database["details"].insert_one(
        {
            "_id": 2,
            "id": 2,
            "genres": [{"id": 18, "name": "Drama"}],
            "credits": {"cast": [{"id": 7}], "crew": []},
        }
    )
    stage.database["pages"].insert_many(
        [{"_id": "popular:1", "movie_ids": [3, 1]}, {"_id": "popular:2", "movie_ids": [1, 2]}]
    )
    run(stage, "export", "top.parquet", "--popular", "10", "--columns", "rank,id")
    assert parquet.read_table(stage.folder / "top.parquet").to_pydict() == {
        "rank": [1, 2, 3],
        "id": [3, 1, 2],
    }
    run(stage, "export", "top.jsonl", "--popular", "2")
    lines = (stage.folder / "top.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [3, 1]
    run(stage, "export", "details.parquet", "--details")
    [cast] = parquet.read_table(stage.folder / "details.parquet")["cast"].to_pylist()
    assert [actor["id"] for actor in cast] == [7]
    run(stage, "export", "details.jsonl", "--details")
    [line] = (stage.folder / "details.jsonl").read_text().splitlines()
    assert json.loads(line)["credits"]["cast"] == [{"id": 7}]
    found = duckdb.read_parquet(f"{stage.folder}/details.parquet")
    assert found.aggregate('sum(len("cast"))').fetchall() == [(1,)]
