"""`reelhaul ids` and `verify --ids`: load TMDB's daily id export, see what is missing and what is gone."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.servers import EmulatorProcess
from tests.support.comparison import catalogue
from tests.support.stage import Stage, wait_for

pytestmark = pytest.mark.acceptance

#: A day that comes after every movie here was first seen, and one that came before.
LATE, EARLY = "movie_ids_12_31_2099.json.gz", "movie_ids_01_01_2020.json.gz"
GENRE, YEAR = 18, 2024


def address(server: EmulatorProcess, name: str) -> str:
    return f"http://127.0.0.1:{server.port}/p/exports/{name}"


def verified(stage: Stage) -> tuple[int, dict[str, Any]]:
    ended = stage.reelhaul("verify", "--ids", "--json")
    facts: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, facts


def test_list_shows_what_is_missing_and_what_is_gone(stage: Stage) -> None:
    server = stage.emulator("--movies", "3000")
    ended = stage.reelhaul("verify", "--ids")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("reelhaul: no list of ids is loaded: ")
    assert stage.reelhaul("ids", "--json").stdout == "null\n"

    stage.worker()
    assert stage.reelhaul("backfill", "--genres", str(GENRE), "--years", str(YEAR)).returncode == 0
    served = catalogue(server)
    stored, everything = set(stage.stored_movies()), set(served)
    assert stored

    loaded = stage.reelhaul("ids", "load", address(server, LATE) + "?no=matter")
    assert (loaded.returncode, loaded.stdout) == (0, f"3,000 movies loaded from {address(server, LATE)}\n")
    assert stage.reelhaul("ids").stdout.startswith(f"3,000 movies in {address(server, LATE)}, loaded 2")
    current = json.loads(stage.reelhaul("ids", "--json").stdout)
    assert (current["movies"], current["source"]) == (3000, address(server, LATE))

    code, facts = verified(stage)
    assert (code, facts["missing"], facts["gone"]) == (1, sorted(everything - stored), [])
    assert (facts["stored"], facts["list"]) == (len(stored), current)
    lines = stage.reelhaul("verify", "--ids").stdout.splitlines()
    first = ", ".join(map(str, sorted(everything - stored)[:20]))
    missing = len(everything - stored)
    videos = sum(served[id_]["video"] for id_ in everything - stored)
    assert lines[1] == (
        f"{missing:,} missing (0 adult, {videos:,} video): {first} and {missing - 20:,} more (--json has all)"
    )

    at = datetime.now(UTC)
    stage.database["movies"].insert_many(
        {"_id": id_, "_meta": {"first_seen": at}} for id_ in everything - stored
    )
    assert verified(stage)[0] == 0
    assert stage.reelhaul("verify", "--ids").stdout.endswith(
        "every movie on the list is stored, none is gone\n"
    )

    deleted = sorted(everything)[100:103]
    server.change_movies(delete=deleted)
    assert stage.reelhaul("ids", "load", address(server, LATE), "--quiet").stdout == ""
    code, facts = verified(stage)
    assert (code, facts["missing"], facts["gone"], facts["newer"]) == (1, [], deleted, 0)
    # Movies first seen after the day of the list may be newer than it.
    assert stage.reelhaul("ids", "load", address(server, EARLY)).returncode == 0
    code, facts = verified(stage)
    assert (code, facts["gone"], facts["newer"]) == (0, [], 3)


def test_the_latest_list_needs_no_name(stage: Stage) -> None:
    server = stage.emulator("--movies", "50")
    before = datetime.now(UTC)
    loaded = stage.reelhaul("ids", "load", "latest")
    assert loaded.returncode == 0, loaded.stderr
    names = [address(server, f"movie_ids_{at:%m_%d_%Y}.json.gz") for at in (before, datetime.now(UTC))]
    assert loaded.stdout in [f"50 movies loaded from {name}\n" for name in names]
    assert verified(stage)[1]["missing"] == sorted(catalogue(server))
    away = stage.reelhaul("ids", "load", "latest", REELHAUL_IDS_URL=f"http://127.0.0.1:{server.port}/none")
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (2, "", 1)
    assert "HTTP 404" in away.stderr
    assert len(verified(stage)[1]["missing"]) == 50


def test_a_schedule_entry_loads_the_latest_list_and_fetches_what_is_missing(stage: Stage) -> None:
    stage.use_schedule('[daily]\ndo = "ids"\nevery = "1d"\n')
    server = stage.emulator("--movies", "60")
    worker = stage.worker()
    assert stage.reelhaul("popular", "--pages", "1", "-q").returncode == 0
    beat = stage.beat()
    wait_for(lambda: set(stage.stored_movies()) == set(catalogue(server)), watching=[worker, beat])
    assert server.stats()["by_kind"]["details"] == 40
    assert verified(stage)[0] == 0


def test_a_schedule_entry_that_fails_says_why_and_the_others_run(stage: Stage) -> None:
    stage.use_schedule('[daily]\ndo = "ids"\nevery = "1d"\n[later]\ndo = "changes"\nevery = "1h"\n')
    server = stage.emulator("--movies", "5")
    stage.environment["REELHAUL_IDS_URL"] = f"http://127.0.0.1:{server.port}/none"
    worker, beat = stage.worker(), stage.beat()
    states = stage.database["schedule"]
    wait_for(lambda: bool((states.find_one({"_id": "later"}) or {}).get("outcome")), watching=[worker, beat])
    failed = states.find_one({"_id": "daily"})
    assert failed is not None
    assert failed["outcome"].startswith("failed: ")
    assert "HTTP 404" in failed["outcome"]


def test_bad_list_is_one_line_and_changes_nothing(stage: Stage) -> None:
    good = b'{"adult":false,"id":7,"original_title":"Seven","popularity":1.5,"video":false}\n'
    for name, content in (("good.json", good), ("bad.json", good + b"{}\n"), ("empty.json.gz", b"")):
        (stage.folder / name).write_bytes(content)
    assert stage.reelhaul("ids", "load", "good.json").stdout == "1 movie loaded from good.json\n"
    for source, words in (
        ("bad.json", "bad.json, line 2: id None, where a whole number above 0 was expected; "),
        ("empty.json.gz", "empty.json.gz: expected a JSON object with an id on each line, got no line; "),
        ("none.json.gz", "none.json.gz: cannot be read: No such file or directory"),
        ("https:///ids", "the address of the list names no host"),
    ):
        ended = stage.reelhaul("ids", "load", source)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"reelhaul: {words}")
        assert ended.stderr.count("\n") == 1
    both = stage.reelhaul("verify", "--ids", "--repair")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)
    assert verified(stage)[1]["missing"] == [7]
