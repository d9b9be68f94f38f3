"""Documents that nobody can read, by another version or by hand: what looks at all of them goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId, decode, encode
from bson.datetime_ms import DatetimeMS

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
    *(
        "18:0001-01-01/0001-06-30:1",
        "::1",
        "x:2024:1",
        603,
        -1,
        2**62,
        ObjectId(),
        None,
        {"a": 1},
        b"18:2024:1",
    ),
]
#: What a record of page 1 may be instead of one.
FIELDS: list[dict[str, Any]] = [
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
]
LOOKS = [
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


def test_times_beyond_the_calendar_can_be_read(stage: Stage) -> None:
    """The embedded server takes none, MongoDB does."""
    far = encode({"fetched_at": DatetimeMS(2**60)})
    assert decode(far, Storage(stage.database).pages.codec_options)["fetched_at"].year == 9999


def ask_for_the_cell(stage: Stage) -> None:
    request = {"genres": [{"id": 18, "name": "Drama"}], "years": [2024], "max_age_s": 86400.0 * 180}
    Storage(stage.database).remember("of a test", {**request, "requested_at": AT, "schedule_entry": ""})


def look_at_everything(stage: Stage) -> list[str]:
    """All that each command said on stderr."""
    said = []
    for look in LOOKS:
        told = stage.reelhaul(*look)
        assert told.returncode in (0, 1), (look, told.stderr)
        assert "Traceback" not in told.stderr
        said.append(told.stderr)
    return said


def test_ids_that_are_no_keys_are_left_out_and_said_once(stage: Stage) -> None:
    ask_for_the_cell(stage)
    for number in (1, 2):
        whole = {
            **PAGE,
            "page": number,
            "movie_ids": [number],
            "fetched_at": AT + number * timedelta(minutes=1),
        }
        stage.database["pages"].insert_one({"_id": CELL.page(number).id, **whole})
        stage.database["movies"].insert_one({"_id": number, "_meta": {"fetched_at": AT}})
    for strange in STRANGE:
        stage.database["pages"].insert_one({"_id": strange, **PAGE})
        stage.database["failures"].insert_one({"_id": strange, "last_at": AT, "reason": "no"})
    for number, last_at in enumerate((None, "yesterday", 7), start=3):
        stage.database["failures"].insert_one({"_id": CELL.page(number).id, "last_at": last_at})
    [status] = json.loads(stage.reelhaul("status", "--json").stdout)
    assert (status["pages_stored"], status["missing"], status["quarantined"]) == (2, 0, 0)
    told = stage.reelhaul("verify", "--json")
    assert (told.returncode, json.loads(told.stdout)["gaps"]) == (0, [])
    assert [json.loads(line)["collection"] for line in told.stderr.splitlines()] == ["pages", "failures"]
    for lines in look_at_everything(stage):
        assert len(lines.splitlines()) <= 2, lines


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: str(len(fields)))
def test_a_page_1_that_says_nothing_ends_nothing(stage: Stage, fields: dict[str, Any]) -> None:
    ask_for_the_cell(stage)
    stage.database["pages"].insert_one({"_id": CELL.page(1).id, **fields})
    look_at_everything(stage)


SWEEP = ("schedule", "run", "sweep")


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({}, SWEEP),
        ({**PAGE, "total_pages": None}, SWEEP),
        ({**PAGE, "fetched_at": None}, ("verify", "--repair")),
    ],
)
def test_a_page_1_that_says_nothing_is_fetched_anew(
    stage: Stage, fields: dict[str, Any], command: tuple[str, ...]
) -> None:
    stage.emulator("--movies", "4000")
    ask_for_the_cell(stage)
    stage.database["pages"].insert_one({"_id": CELL.page(1).id, **fields})
    worker = stage.worker()
    stage.reelhaul(*command)
    wait_for(lambda: stage.reelhaul("verify").returncode == 0, watching=[worker])
