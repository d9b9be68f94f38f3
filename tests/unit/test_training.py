"""The training set: how movies are split, what is left out, and a folder that appears whole or not at all."""

import resource
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelhaul.training import Counts, NoMovies, is_test, write_training_set

NAMES = {18: "Drama", 35: "Comedy", 37: "Western"}
NOTICE = (
    "This product uses TMDB and the TMDB APIs but is not endorsed, certified, or otherwise approved by TMDB."
)
#: By `printf ID | sha256sum`: the first 16 digits, modulo 100, are 13, 2, 2 and 46, 89, 72.
TESTED = [1, 16, 603]
TRAINED = [2, 550, 19995]


def batch(*movies: tuple[int, str | None, list[int] | None]) -> pa.RecordBatch:
    """Movies by id, overview and genre ids; their title is `Title ID`."""
    ids, overviews, genre_ids = ([movie[column] for movie in movies] for column in range(3))
    return pa.record_batch(
        {
            "id": pa.array(ids, pa.int64()),
            "title": [f"Title {id_}" for id_ in ids],
            "overview": pa.array(overviews, pa.string()),
            "genre_ids": pa.array(genre_ids, pa.list_(pa.int64())),
            "popularity": [1.5] * len(ids),
        }
    )


def write(target: Path, *batches: pa.RecordBatch) -> Counts:
    return write_training_set(batches, NAMES, target, written_on=date(2026, 11, 24))


def rows(target: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each side."""
    return {side: pq.read_table(target / f"{side}.parquet").to_pylist() for side in ("train", "test")}


def of_both(target: Path) -> dict[int, dict[str, Any]]:
    """All rows by id."""
    return {row["id"]: row for side in rows(target).values() for row in side}


def test_the_side_of_a_movie_is_the_documented_hash_of_its_id() -> None:
    assert [id_ for id_ in TESTED + TRAINED if is_test(id_)] == TESTED


def test_a_fifth_of_the_movies_is_for_testing() -> None:
    assert 19_500 < sum(map(is_test, range(100_000))) < 20_500


def test_movies_are_on_the_side_of_their_id_with_one_boolean_a_genre(tmp_path: Path) -> None:
    movies = [(id_, f"overview {id_}", [18, 37]) for id_ in sorted(TESTED + TRAINED)]
    counts = write(tmp_path / "set", batch(*movies[:4]), batch(*movies[4:]))
    sides = rows(tmp_path / "set")
    assert [row["id"] for row in sides["test"]] == TESTED
    assert [row["id"] for row in sides["train"]] == TRAINED
    told = {"id": 1, "title": "Title 1", "overview": "overview 1"}
    assert sides["test"][0] == {**told, "Comedy": False, "Drama": True, "Western": True}
    assert counts.movies == {"train": 3, "test": 3}
    assert counts.genres == {
        "Comedy": {"train": 0, "test": 0},
        "Drama": {"train": 3, "test": 3},
        "Western": {"train": 3, "test": 3},
    }


def test_both_files_have_the_same_columns_though_only_one_side_has_the_genre(tmp_path: Path) -> None:
    write(tmp_path / "set", batch((TESTED[0], "a", [10769]), (TRAINED[0], "b", [18])))
    schemas = [pq.read_schema(tmp_path / "set" / f"{side}.parquet") for side in ("train", "test")]
    assert schemas[0] == schemas[1]
    assert schemas[0].names == ["id", "title", "overview", "Comedy", "Drama", "Western", "genre 10769"]


@pytest.mark.parametrize(
    "names",
    [{18: "title", 35: "Drama"}, {18: "", 35: "Drama"}, {17: "Drama", 18: "Drama", 35: "Comedy"}],
)
def test_a_genre_whose_name_is_empty_or_taken_is_named_by_its_id(
    tmp_path: Path, names: dict[int, str]
) -> None:
    write_training_set([batch((1, "a", [18]))], names, tmp_path / "set")
    row = of_both(tmp_path / "set")[1]
    assert [name for name, value in row.items() if value is True] == ["genre 18"]
    assert row["title"] == "Title 1"


@pytest.mark.parametrize("overview", [None, "", " \n\t"])
def test_a_movie_without_an_overview_is_left_out(tmp_path: Path, overview: str | None) -> None:
    counts = write(tmp_path / "set", batch((1, overview, [18]), (2, "two", [18])))
    assert list(of_both(tmp_path / "set")) == [2]
    assert counts.without_overview == 1


def test_no_overview_is_on_both_sides_or_twice_on_one(tmp_path: Path) -> None:
    same = [(id_, "A boy  meets\na GIRL ", [18]) for id_ in TESTED + TRAINED]
    counts = write(tmp_path / "set", batch((3, "a boy meets a girl", [35])), batch(*same))
    assert list(of_both(tmp_path / "set")) == [3]
    assert counts.duplicates == len(same)


def test_no_id_is_written_twice_and_a_repeated_one_reserves_no_overview(tmp_path: Path) -> None:
    counts = write(tmp_path / "set", batch((1, "one", [18]), (1, "two", [35])), batch((2, "two", [35])))
    sides = rows(tmp_path / "set")
    assert [(row["id"], row["overview"]) for row in sides["test"]] == [(1, "one")]
    assert [(row["id"], row["overview"]) for row in sides["train"]] == [(2, "two")]
    assert counts.duplicates == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    movies=st.lists(
        st.tuples(
            st.integers(1, 30),
            st.sampled_from([None, "", " ", "a", "A", " a", "b", "c d", "c  d", "e", "f"]),
            st.none() | st.lists(st.sampled_from([18, 35, 37, 10769]), max_size=5),
        ),
        min_size=1,
        max_size=40,
    ),
    size=st.integers(1, 40),
)
def test_whatever_comes_nothing_is_doubled_empty_or_on_the_wrong_side(
    tmp_path: Path, movies: list[tuple[int, str | None, list[int] | None]], size: int
) -> None:
    target = tmp_path / "set"
    if not any((overview or "").strip() for _, overview, _ in movies):
        movies = [*movies, (31, "z", [18])]
    counts = write(target, *(batch(*movies[at : at + size]) for at in range(0, len(movies), size)))
    given_genres = {(id_, overview): set(ids or ()) for id_, overview, ids in reversed(movies)}
    sides = rows(target)
    for side, written in sides.items():
        assert all(is_test(row["id"]) == (side == "test") for row in written)
        for row in written:
            had = given_genres[row["id"], row["overview"]]
            named = {name: id_ in had for id_, name in {**NAMES, 10769: "genre 10769"}.items()}
            assert {**named, **row} == {**row, **named}
    together = sides["train"] + sides["test"]
    texts = [" ".join(row["overview"].split()).casefold() for row in together]
    assert "" not in texts
    assert len(texts) == len(set(texts))
    assert len(together) == len({row["id"] for row in together})
    assert len(movies) == len(together) + counts.without_overview + counts.duplicates


class TestReadme:
    def test_it_has_counts_date_notice_and_terms(self, tmp_path: Path) -> None:
        movies = [(1, "a", [18]), (2, "b", [18]), (16, "c", []), (550, "", [18]), (603, "a", [18])]
        write(tmp_path / "set", batch(*movies))
        text = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
        for line in (
            "Written by Reelhaul on 2026-11-24.",
            "| movies | 1 | 2 |",
            "| *without a genre* | 0 | 1 |",
            "| Drama | 1 | 1 |",
            "| Western | 0 | 0 |",
            "Left out: 1 without an overview, 1 with the id or overview of another movie.",
            NOTICE,
        ):
            assert line in text.splitlines(), text
        plain = " ".join(text.split())
        assert "Use in AI or machine learning, and commercial use, need TMDB's agreement" in plain
        assert "Nothing may be kept for longer than six months without being fetched again" in plain

    def test_it_says_until_when_the_oldest_movie_may_be_kept(self, tmp_path: Path) -> None:
        times = [datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 1, 1, 23, tzinfo=UTC), None]
        dated = batch((1, "a", [18]), (2, "b", [18]), (3, "c", [18])).append_column(
            "fetched_at", pa.array(times, pa.timestamp("ms", "UTC"))
        )
        write(tmp_path / "set", dated)
        text = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
        assert "fetched on 2026-01-01: fetch again, or delete this, by 2026-06-30." in text


class TestFolder:
    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    def test_it_holds_three_files_and_nothing_is_left_beside_it(self, tmp_path: Path) -> None:
        write(tmp_path / "set", batch((1, "a", [18])))
        assert self.names(tmp_path) == ["set"]
        assert self.names(tmp_path / "set") == ["README.md", "test.parquet", "train.parquet"]

    def test_it_takes_the_place_of_an_older_one_or_of_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        for overview in ("older", "newer"):
            write(tmp_path / "set", batch((1, overview, [18])))
        assert of_both(tmp_path / "set")[1]["overview"] == "newer"
        assert self.names(tmp_path) == ["set"]

    def test_the_same_movies_give_the_same_bytes(self, tmp_path: Path) -> None:
        movies = [batch(*((id_, f"overview {id_}", [18, id_ % 40]) for id_ in range(500)))]
        for name in ("one", "other"):
            write(tmp_path / name, *movies)
        for name in self.names(tmp_path / "one"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()

    @pytest.mark.parametrize("kind", ["file", "folder with a file"])
    def test_nothing_else_is_replaced(self, tmp_path: Path, kind: str) -> None:
        target = tmp_path / "mine"
        precious = target if kind == "file" else target / "thesis.txt"
        precious.parent.mkdir(exist_ok=True)
        precious.write_text("precious")
        with pytest.raises(OSError, match="it exists and"):
            write(target, batch((1, "a", [18])))
        assert precious.read_text() == "precious"
        assert self.names(tmp_path) == ["mine"]

    def test_without_any_overview_it_is_not_written(self, tmp_path: Path) -> None:
        with pytest.raises(NoMovies, match="none of the movies has an overview"):
            write(tmp_path / "set", batch((1, "", [18])), batch())
        assert self.names(tmp_path) == []

    def test_a_failure_halfway_leaves_the_older_one(self, tmp_path: Path) -> None:
        def failing() -> Iterable[pa.RecordBatch]:
            yield batch((1, "newer", [18]))
            raise ConnectionError("away")

        write(tmp_path / "set", batch((1, "older", [18])))
        with pytest.raises(ConnectionError):
            write_training_set(failing(), NAMES, tmp_path / "set")
        assert self.names(tmp_path) == ["set"]
        assert of_both(tmp_path / "set")[1]["overview"] == "older"

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, small_files: None) -> None:
        assert small_files is None
        movies = batch(*((id_, f"overview {id_} {id_ * 7919}", [18]) for id_ in range(20_000)))
        with pytest.raises(OSError, match=r"[Ff]ile too large"):
            write(tmp_path / "set", movies)
        assert self.names(tmp_path) == []


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files cannot grow above 64 KiB: the kernel refuses to write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
