"""Documents that cannot be read, written by another version or by hand: queries of many documents go on."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from tests.support.stage import Stage, wait_for
from worker.keys import Cell
from worker.storage.database import Storage

CELL = Cell(18, "2024")
AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
PAGE = {
    **CELL.page(1)._asdict(),
    "total_pages": 2,
    "total_results": 2,
    "movie_ids": [1],
    "fetched_at": AT,
    "sha256": "0",
}
#: Ids that no page has.
STRANGE: list[Any] = [
    *("18:2024:1000000000000", f"{10**30}:2024:1", "18:2024:501", "18:2024:0", "18:2024:x", "18:2024", ""),
    *("18:0001-01-01/0001-06-30:1", "::1", "x:2024:1"),
    *(603, -1, 2**62, ObjectId(), None, {"a": 1}, b"18:2024:1"),
]
#: Unreadable records of page 1.
RECORDS: list[dict[str, Any]] = [
    {},
    {**PAGE, "total_pages": None},
    {**PAGE, "total_pages": "2"},
    {**PAGE, "total_pages": -5},
    {**PAGE, "total_pages": 1.5},
    {**PAGE, "total_pages": {"a": 1}},
    {**PAGE, "movie_ids": None},
    {**PAGE, "fetched_at": None},
    {**PAGE, "fetched_at": "yesterday"},
    {**PAGE, "page": "1"},
    {**PAGE, "page": [1]},
    {**PAGE, "genre_id": None, "window": []},
]
#: Commands that read every page or failure.
COMMANDS = [
    ("status", "--json"),
    ("verify", "--json"),
    ("fresh", "--json"),
    ("failures", "--json"),
    ("failures",),
    ("expire", "--dry-run"),
    ("schedule", "run", "sweep"),
    ("schedule", "run", "recent"),
    ("schedule", "run", "oldest"),
    ("schedule", "run", "changes"),
]
SWEEP = ("schedule", "run", "sweep")


def save_backfill(stage: Stage, *years: int) -> None:
    request = {"genres": [{"id": 18, "name": "Drama"}], "years": list(years), "max_age_s": 86400.0 * 180}
    facts = {"kind": "backfill", "requested_at": AT, "schedule_entry": ""}
    Storage(stage.database).requests.save("of a test", {**request, **facts})


def run_all(stage: Stage) -> list[str]:
    """Run the commands; returns what each wrote to stderr."""
    stderr = []
    for command in COMMANDS:
        ran = stage.reelhaul(*command)
        assert ran.returncode in (0, 1), (command, ran.stderr)
        assert "Traceback" not in ran.stderr
        stderr.append(ran.stderr)
    return stderr


def test_unreadable_ids_are_left_out_and_logged_once(stage: Stage) -> None:
    save_backfill(stage, 2024)
    for number in (1, 2):
        fetched_at = AT + number * timedelta(minutes=1)
        record = {**PAGE, "page": number, "movie_ids": [number], "fetched_at": fetched_at}
        stage.database["pages"].insert_one({"_id": CELL.page(number).id, **record})
        stage.database["movies"].insert_one({"_id": number, "_meta": {"fetched_at": AT}})
    for strange in STRANGE:
        stage.database["pages"].insert_one({"_id": strange, **PAGE})
        stage.database["failures"].insert_one({"_id": strange, "last_at": AT, "reason": "no"})
    for number, last_at in enumerate((None, "yesterday", 7), start=3):
        stage.database["failures"].insert_one({"_id": CELL.page(number).id, "last_at": last_at})
    [status] = json.loads(stage.reelhaul("status", "--json").stdout)
    assert (status["pages_stored"], status["missing"], status["quarantined"]) == (2, 0, 0)
    verified = stage.reelhaul("verify", "--json")
    assert (verified.returncode, json.loads(verified.stdout)["gaps"]) == (0, [])
    assert [json.loads(line)["collection"] for line in verified.stderr.splitlines()] == ["pages", "failures"]
    for lines in run_all(stage):
        assert len(lines.splitlines()) <= 2, lines


def test_no_command_fails_at_an_unreadable_page_1(stage: Stage) -> None:
    """Each record stands in a cell of its own."""
    years = range(2024 - len(RECORDS) + 1, 2025)
    save_backfill(stage, *years)
    for year, record in zip(years, RECORDS, strict=True):
        stage.database["pages"].insert_one({**record, "_id": Cell(18, str(year)).page(1).id})
    run_all(stage)


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ({}, SWEEP),
        ({**PAGE, "total_pages": None}, SWEEP),
        ({**PAGE, "fetched_at": None}, ("verify", "--repair")),
    ],
)
def test_an_unreadable_page_1_is_fetched_again(
    stage: Stage, record: dict[str, Any], command: tuple[str, ...]
) -> None:
    stage.emulator("--movies", "4000")
    save_backfill(stage, 2024)
    stage.database["pages"].insert_one({"_id": CELL.page(1).id, **record})
    worker = stage.worker()
    stage.reelhaul(*command)
    wait_for(lambda: stage.reelhaul("verify").returncode == 0, watching=[worker])
