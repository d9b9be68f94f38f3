"""`reelhaul import`: what somebody already has, merged as pages are, without a word about pages."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.comparison import catalogue
from tests.support.stage import Stage

pytestmark = pytest.mark.acceptance


def test_an_import_fills_the_movies_and_proves_no_page(stage: Stage) -> None:
    server = stage.emulator("--movies", "1500")
    movies = catalogue(server)
    lines = "".join(json.dumps(movie) + "\n" for movie in movies.values())
    (stage.folder / "mine.jsonl").write_text(lines)
    today = datetime.now(UTC).date().isoformat()
    done = stage.reelhaul("import", "mine.jsonl", "--fetched-at", today)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "1,500 movies imported from mine.jsonl: 1,500 new, 0 changed, 0 unchanged\n",
        "",
    )
    assert stage.stored_movies() == movies
    assert stage.stored_pages() == {}
    assert stage.reelhaul("verify").returncode == 2  # nothing was requested yet
    assert server.stats()["arrivals"] == 0

    # A backfill fetches every page nevertheless, and its versions, fetched later, stay.
    first = min(movies)
    changed = {**movies[first], "title": "Changed", "genre_ids": [18], "release_date": "2019-05-15"}
    server.change_movies(upsert=[changed])
    stage.worker()
    assert stage.reelhaul("backfill", "--genres", "18", "--years", "2019", "-q").returncode == 0
    assert stage.reelhaul("verify").returncode == 0
    assert stage.stored_movies()[first] == changed
    done = stage.reelhaul("import", "mine.jsonl", "--fetched-at", today)
    assert done.stdout.endswith(" 0 new, 0 changed, 1,500 unchanged\n")
    assert stage.stored_movies()[first] == changed


def test_what_was_exported_can_be_imported(stage: Stage) -> None:
    stage.emulator("--movies", "300")
    stage.worker()
    assert stage.reelhaul("backfill", "--by", "date", "--years", "1870..2100", "-q").returncode == 0
    assert stage.reelhaul("export", "all.jsonl.gz", "-q").returncode == 0
    exported, pages = stage.stored_movies(), stage.stored_pages()
    assert len(exported) > 250
    stage.database["movies"].delete_many({})
    now = datetime.now(UTC).isoformat()
    assert stage.reelhaul("import", "all.jsonl.gz", "--fetched-at", now, "-q").stdout == ""
    assert stage.stored_movies() == exported
    assert stage.stored_pages() == pages


def test_bad_input_is_one_line_and_stores_nothing(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    good = json.dumps({"id": 7, "title": "Seven", "genre_ids": [80]}) + "\n"
    (stage.folder / "bad.jsonl").write_text(good * 5 + '{"id": 8}\n')
    (stage.folder / "good.jsonl").write_text(good)
    today, old = (f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}" for days in (0, 200))
    for file, at, words in (
        ("bad.jsonl", today, "bad.jsonl, line 6: no title: not a movie; expected list items or details"),
        ("none.jsonl", today, "none.jsonl: cannot be read: No such file or directory"),
        (".", today, ".: expected a regular file"),
        ("good.jsonl", "2999-01-01", "--fetched-at '2999-01-01': expected a time in the past"),
        ("good.jsonl", old, f"--fetched-at '{old}': older than REELHAUL_RETENTION (180d)"),
    ):
        ended = stage.reelhaul("import", file, "--fetched-at", at)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"reelhaul: {words}")
        assert ended.stderr.count("\n") == 1
    without = stage.reelhaul("import", "good.jsonl")
    assert (without.returncode, without.stdout) == (2, "")
    assert "--fetched-at" in without.stderr
    assert stage.stored_movies() == {}
    longer = stage.reelhaul("import", "good.jsonl", "--fetched-at", old, REELHAUL_RETENTION="300d")
    assert longer.stdout == "1 movie imported from good.jsonl: 1 new, 0 changed, 0 unchanged\n"
