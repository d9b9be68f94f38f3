"""Importing a file: it merges as pages do, whole or not at all, and proves nothing about pages."""

import gzip
import json
import os
import tracemalloc
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from producer.import_file import Imported, import_movies
from producer.sources import unmetered
from tests.support.pages import AT, page_of
from worker.errors import UsageError
from worker.keys import PageKey
from worker.storage.database import Storage

EARLIER, LATER = AT - timedelta(days=1), AT + timedelta(days=1)


def item(id_: int, title: str = "") -> dict[str, Any]:
    return {"id": id_, "title": title or f"No {id_}", "genre_ids": [18], "release_date": ""}


def written(folder: Path, movies: Iterable[dict[str, Any]], name: str = "mine.jsonl") -> Path:
    file = folder / name
    file.write_bytes(b"".join(json.dumps(movie).encode() + b"\n" for movie in movies))
    return file


def stored(storage: Storage) -> dict[int, dict[str, Any]]:
    return {movie["_id"]: movie for movie in storage.movies.collection.find()}


@pytest.mark.parametrize(
    "form",
    [
        lambda movies: b"".join(json.dumps(movie).encode() + b"\r\n" for movie in movies),
        lambda movies: json.dumps(movies).encode(),
        lambda movies: json.dumps(movies, indent=2).encode(),
        lambda movies: gzip.compress(json.dumps(movies, ensure_ascii=False).encode()),
    ],
)
def test_every_form_of_file_is_imported(storage: Storage, tmp_path: Path, form: Any) -> None:
    movies = [item(id_, f"{id_} \u2013 \U0001f3ac") for id_ in range(1, 451)]
    (tmp_path / "dump").write_bytes(form(movies))
    assert import_movies(storage, tmp_path / "dump", AT) == Imported(450, 450, 0)
    meta = {"first_seen": AT, "fetched_at": AT, "page": "import:dump"}
    found = stored(storage)
    for movie in movies:
        document = found.pop(movie["id"])
        assert {name: document["_meta"][name] for name in meta} == meta
        assert list(document) == ["_id", *movie, "_meta"]
        assert {name: document[name] for name in movie} == movie
    assert found == {}
    assert storage.pages.collection.count_documents({}) == 0
    assert storage.movies.details.count_documents({}) == 0
    again = import_movies(storage, tmp_path / "dump", AT)
    assert (again.new, again.changed, again.unchanged) == (0, 0, 450)


@pytest.mark.parametrize(
    ("at", "title", "counts"), [(EARLIER, "page", (1, 0, 1)), (LATER, "file", (1, 1, 0))]
)
def test_what_was_fetched_later_stays(
    storage: Storage, tmp_path: Path, at: Any, title: str, counts: tuple[int, int, int]
) -> None:
    storage.pages.save(PageKey(18, "1999", 1), page_of([item(1, "page"), item(3)]))
    done = import_movies(storage, written(tmp_path, [item(1, "file"), item(2)]), at)
    assert (done.new, done.changed, done.unchanged) == counts
    movie = stored(storage)[1]
    assert movie["title"] == title
    assert movie["_meta"]["first_seen"] == min(AT, at)
    assert movie["_meta"]["fetched_at"] == max(AT, at)


def test_the_order_of_a_page_and_a_file_does_not_matter(storage: Storage, tmp_path: Path) -> None:
    page = page_of([item(1, "page"), item(2)])
    file = written(tmp_path, [item(1, "file"), item(2), item(1, "other")])
    left = []
    for page_first in (True, False):
        storage.movies.collection.delete_many({})
        if page_first:
            storage.pages.save(PageKey(18, "1999", 1), page)
        import_movies(storage, file, AT)
        if not page_first:
            storage.pages.save(PageKey(18, "1999", 1), page)
        left.append(stored(storage))
    assert left[0] == left[1]


def test_the_order_of_lines_does_not_matter(storage: Storage, tmp_path: Path) -> None:
    movies, left = [item(1, "one"), item(2), item(1, "other")], []
    for lines in (movies, movies[::-1]):
        import_movies(storage, written(tmp_path, lines), AT)
        left.append(stored(storage))
        storage.movies.collection.delete_many({})
    assert left[0] == left[1]


def test_a_movie_that_stands_twice_counts_once_as_new(storage: Storage, tmp_path: Path) -> None:
    far_apart = [item(1), *(item(id_) for id_ in range(2, 300)), item(1)]
    done = import_movies(storage, written(tmp_path, far_apart), AT)
    assert (done.movies, done.new, done.changed, done.unchanged) == (300, 299, 0, 1)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b'{"id":7}', "line 301: no title: not a movie; expected list items or details"),
        (b'{"id":7,', "line 301: not JSON: "),
        (json.dumps({**item(7), "_id": 7}).encode(), "line 301: movie 7 has a field of ours: _id or _meta"),
        (json.dumps({**item(7), "votes": 2**64}).encode(), "line 301: OverflowError: "),
        (b'{"id":7,"title":"half \\ud83d","genre_ids":[]}', "line 301: (Unicode|Invalid)"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(
    storage: Storage, tmp_path: Path, bad: bytes, words: str
) -> None:
    file = written(tmp_path, map(item, range(1, 301)))
    file.write_bytes(file.read_bytes() + bad + b"\n" + json.dumps(item(8)).encode())
    with pytest.raises(UsageError, match=rf"\Amine.jsonl, {words}.*; nothing was imported\Z"):
        import_movies(storage, file, AT)
    assert stored(storage) == {}


def test_a_bad_file_is_named(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"\n\n")
    (tmp_path / "array").write_bytes(b" [ ] ")
    packed = gzip.compress(written(tmp_path, map(item, range(1, 301))).read_bytes())
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    os.mkfifo(tmp_path / "fifo")
    for name, words in (
        ("empty", "empty: no movie in it; expected list items"),
        ("array", "array: no movie in it"),
        ("cut.gz", r"cut.gz, line \d+: the gzip stream is damaged or cut short.*; nothing was imported"),
        ("none", ".*/none: cannot be read: No such file"),
        ("fifo", ".*/fifo: expected a regular file: it is read twice"),
        (".", ".*: expected a regular file"),
    ):
        with pytest.raises(UsageError, match=rf"\A{words}"):
            import_movies(storage, tmp_path / name, AT)
    assert stored(storage) == {}


def test_a_file_that_changes_meanwhile_is_no_success(storage: Storage, tmp_path: Path) -> None:
    for change, words in (
        (
            lambda file: written(file.parent, [item(1)]),
            "it changed while it was read; 1 of 2 movies were imported",
        ),
        (lambda file: file.write_bytes(b"x"), r"line 1: not JSON: 'x'; .*; 0 of 2 movies were imported"),
    ):
        file = written(tmp_path, [item(1), item(2)])

        def meter(_: int | None, change: Any = change, file: Path = file) -> Any:
            change(file)
            return unmetered(None)

        with pytest.raises(UsageError, match=words):
            import_movies(storage, file, AT, merging=meter)


def test_a_name_that_is_no_utf8_is_stored(storage: Storage, tmp_path: Path) -> None:
    import_movies(storage, written(tmp_path, [item(1)], "caf\udce9.jsonl"), AT)
    assert stored(storage)[1]["_meta"]["page"] == r"import:caf\udce9.jsonl"


def test_memory_is_flat(storage: Storage, tmp_path: Path) -> None:
    """The peak for 30 MB is what it is for 3 MB, in both forms."""
    peaks = []
    for number in (2_000, 20_000):
        movies = [{**item(id_), "overview": "x" * 1_500} for id_ in range(1, number + 1)]
        file = tmp_path / "array"
        file.write_text(json.dumps(movies))
        del movies
        tracemalloc.start()
        import_movies(storage, file, AT)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        storage.movies.collection.delete_many({})
    assert peaks[1] < peaks[0] * 1.5
