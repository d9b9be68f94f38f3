"""The proof: what proves a cell, what does not and why, and the repair of a gap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from sandbox.processes import ChildProcess
from sandbox.servers import EmulatorProcess
from tests.support.stage import PATIENCE_S, Stage, catalogue, expected_cell, page_requests, wait_for
from worker.errors import Rejected
from worker.keys import Cell, PageKey
from worker.storage.database import Storage

GENRE, YEAR = 18, 2024
CELL = Cell(GENRE, str(YEAR))
DAY = Cell(GENRE, f"{YEAR}-01-01/{YEAR}-01-01")
FIRST, SECOND = CELL.halves()
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PAGE_1 = "[?&]page=1(&|$)"


def proof(stage: Stage, *arguments: str) -> tuple[int, dict[str, Any]]:
    told = stage.reelhaul("verify", "--json", *arguments)
    assert told.returncode in (0, 1), told.stderr
    return told.returncode, json.loads(told.stdout)


def reasons(stage: Stage) -> tuple[int, list[str]]:
    code, told = proof(stage)
    return code, [gap.get("reason") for gap in told["gaps"]]


class Shelf:
    """Page records as a worker leaves them, written by hand."""

    def __init__(self, stage: Stage) -> None:
        self._database = stage.database
        self.storage = Storage(stage.database)
        request = {"genres": [{"id": GENRE, "name": "Drama"}], "years": [YEAR], "max_age_s": None}
        self.storage.backfills.save("of a test", {**request, "requested_at": AT, "duty": ""})

    def put(
        self, key: PageKey, ids: Sequence[int], pages: int, results: int, at: datetime = AT, **odd: Any
    ) -> None:
        mark = {
            "_id": key.id,
            **key._asdict(),
            "total_pages": pages,
            "total_results": results,
            "movie_ids": list(ids),
            "fetched_at": at,
            "sha256": "0",
        }
        self._database["pages"].insert_one({**mark, **odd})
        for id_ in ids:
            self._database["movies"].update_one(
                {"_id": id_}, {"$set": {"id": id_, "_meta": {"fetched_at": at}}}, upsert=True
            )

    def put_whole(self, cell: Cell = CELL, first: int = 0, at: datetime = AT) -> None:
        """45 movies on three pages."""
        for number, ids in ((1, range(20)), (2, range(20, 40)), (3, range(40, 45))):
            self.put(cell.page(number), [first + id_ for id_ in ids], 3, 45, at + number * MINUTE)


@pytest.fixture
def shelf(stage: Stage) -> Shelf:
    return Shelf(stage)


class TestWhatProvesNothing:
    def test_three_whole_pages_prove_their_cell(self, stage: Stage, shelf: Shelf) -> None:
        shelf.put_whole()
        assert proof(stage) == (0, {"cells": 1, "pages_missing": 0, "gaps": []})

    def test_nothing_is_stored(self, stage: Stage, shelf: Shelf) -> None:
        code, told = proof(stage)
        assert (code, told["pages_missing"]) == (1, 1)
        assert told["gaps"][0]["reason"] == "missing"
        assert shelf.storage.pages.count() == 0

    def test_the_only_page_is_in_quarantine(self, stage: Stage, shelf: Shelf) -> None:
        shelf.storage.failures.add(CELL.page(1), Rejected("HTTP 404"), AT)
        code, told = proof(stage)
        assert (code, told["pages_missing"]) == (1, 0)
        assert [gap["quarantined"] for gap in told["gaps"]] == [["18:2024:1"]]
        said = stage.reelhaul("verify").stdout
        assert "18:2024:1" in said
        assert "reelhaul failures" in said

    def test_a_page_in_quarantine_is_a_gap_though_an_old_record_of_it_is_there(
        self, stage: Stage, shelf: Shelf
    ) -> None:
        shelf.put_whole()
        shelf.storage.failures.add(CELL.page(3), Rejected("HTTP 404"), AT + timedelta(days=1))
        assert reasons(stage) == (1, ["quarantined"])

    def test_a_newer_page_tells_more_movies_than_page_1(self, stage: Stage, shelf: Shelf) -> None:
        shelf.put(CELL.page(1), range(20), 2, 40)
        shelf.put(CELL.page(2), range(20, 40), 3, 41, AT + MINUTE)
        assert reasons(stage) == (1, ["totals"])

    @pytest.mark.parametrize(("pages", "results"), [(2, 41), (3, 40)])
    def test_one_total_alone_differs(self, stage: Stage, shelf: Shelf, pages: int, results: int) -> None:
        shelf.put(CELL.page(1), range(20), 2, 40)
        shelf.put(CELL.page(2), range(20, 40), pages, results, AT + MINUTE)
        assert reasons(stage) == (1, ["totals"])

    def test_an_old_page_beyond_the_end_hides_no_gap(self, stage: Stage, shelf: Shelf) -> None:
        shelf.put(CELL.page(1), range(20), 2, 40, AT)
        shelf.put(CELL.page(2), range(19, 39), 2, 40, AT + MINUTE)
        shelf.put(CELL.page(3), range(38, 40), 3, 41, AT - MINUTE)
        code, told = proof(stage)
        assert (code, told["gaps"][0]["reason"]) == (1, "short")
        assert (told["gaps"][0]["found"], told["gaps"][0]["said"]) == (39, 40)

    def test_a_page_that_was_asked_for_before_page_1(self, stage: Stage, shelf: Shelf) -> None:
        shelf.put(CELL.page(1), range(20), 2, 40, AT)
        shelf.put(CELL.page(2), range(20, 40), 2, 40, AT - timedelta(milliseconds=1))
        code, told = proof(stage)
        assert (code, told["gaps"][0]["reason"], told["gaps"][0]["found"]) == (1, "older", 20)

    def test_more_movies_than_tmdb_says(self, stage: Stage, shelf: Shelf) -> None:
        shelf.put(CELL.page(1), range(20), 2, 39)
        shelf.put(CELL.page(2), range(20, 40), 2, 39, AT + MINUTE)
        assert reasons(stage) == (1, ["surplus"])

    def test_movies_that_are_on_pages_and_not_stored(self, stage: Stage, shelf: Shelf) -> None:
        shelf.put_whole()
        stage.database["movies"].delete_one({"_id": 7})
        assert reasons(stage) == (1, ["lost"])

    @pytest.mark.parametrize(
        "odd",
        [
            {"movie_ids": None},
            {"movie_ids": ["x"]},
            {"total_pages": "3"},
            {"total_results": None},
            {"page": 7},
        ],
    )
    @pytest.mark.parametrize("number", [1, 3])
    def test_a_record_that_cannot_be_read(
        self, stage: Stage, shelf: Shelf, number: int, odd: dict[str, Any]
    ) -> None:
        shelf.put_whole()
        stage.database["pages"].update_one({"_id": CELL.page(number).id}, {"$set": odd})
        code, told = proof(stage)
        assert (code, [gap["reason"] for gap in told["gaps"]]) == (1, ["unreadable"])


class TestSplitWindows:
    @pytest.fixture
    def split(self, shelf: Shelf) -> Shelf:
        shelf.put(CELL.page(1), range(20), 501, 90)
        shelf.put_whole(FIRST, at=AT + MINUTE)
        shelf.put_whole(SECOND, first=100, at=AT + MINUTE)
        return shelf

    def test_both_halves_whole_prove_it(self, stage: Stage, split: Shelf) -> None:
        assert split.store.count_pages() == 7
        assert reasons(stage) == (0, [])

    @pytest.mark.parametrize(
        ("number", "change", "reason"),
        [
            (1, {"total_results": 46}, "totals"),
            (3, {"total_pages": 4}, "totals"),
            (2, {"fetched_at": AT}, "older"),
            (3, {"movie_ids": [1, 2]}, "short"),
            (1, {"total_pages": 501}, "missing"),
        ],
    )
    def test_what_is_wrong_with_a_half_is_wrong_with_the_whole(
        self, stage: Stage, split: Shelf, number: int, change: dict[str, Any], reason: str
    ) -> None:
        assert split.store.count_pages() == 7
        stage.database["pages"].update_one({"_id": SECOND.page(number).id}, {"$set": change})
        assert reasons(stage) == (1, [reason])

    def test_a_half_that_is_older_than_the_split(self, stage: Stage, split: Shelf) -> None:
        assert split.store.count_pages() == 7
        later = {"$set": {"fetched_at": AT + timedelta(hours=1)}}
        stage.database["pages"].update_one({"_id": CELL.page(1).id}, later)
        assert reasons(stage) == (1, ["older"])

    def test_a_page_of_a_half_in_quarantine_is_named(self, stage: Stage, split: Shelf) -> None:
        split.store.quarantine(SECOND.page(2), Rejected("HTTP 404"), AT + timedelta(days=1))
        code, told = proof(stage)
        assert (code, [gap["quarantined"] for gap in told["gaps"]]) == (1, [[SECOND.page(2).id]])

    def test_a_day_that_cannot_be_split_is_never_proven(self, stage: Stage, shelf: Shelf) -> None:
        cell, halves = CELL, [DAY]
        while (half := cell.halves()) and cell != DAY:
            shelf.put(cell.page(1), [], 501, 10_020, AT)
            cell, halves = half[0], [*halves, half[1]]
        for number in range(1, 501):
            shelf.put(DAY.page(number), [], 501, 10_020, AT + MINUTE)
        for empty in halves[1:]:
            shelf.put(empty.page(1), [], 1, 0, AT + MINUTE)
        code, told = proof(stage)
        assert (code, told["pages_missing"], told["gaps"][0]["reason"]) == (1, 0, "too-large")
        assert "cannot be split" in stage.reelhaul("verify").stdout


def test_a_page_1_that_is_fetched_while_all_are_read_is_no_proof(
    stage: Stage, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from producer.completeness import Reason, check_cells  # noqa: PLC0415 -- the others run the command

    shelf.put_whole()
    read_first_pages = Storage.first_pages

    def then_it_changes(storage: Storage) -> Any:
        found = read_first_pages(storage)
        newer = {"$set": {"fetched_at": AT + timedelta(days=1)}}
        stage.database["pages"].update_one({"_id": CELL.page(1).id}, newer)
        return found

    monkeypatch.setattr(Storage, "first_pages", then_it_changes)
    [check] = check_cells(shelf.storage, [CELL])
    assert check.problem
    assert check.problem.reason is Reason.CHANGING


@pytest.fixture
def fleet(stage: Stage) -> tuple[EmulatorProcess, ChildProcess]:
    """An emulated TMDB and one worker that has hauled the cell."""
    server = stage.emulator("--movies", "8000")
    worker = stage.worker()
    assert stage.reelhaul("backfill", "--genres", str(GENRE), "--years", str(YEAR)).returncode == 0
    assert proof(stage)[0] == 0
    server.reset()
    return server, worker


def refresh(stage: Stage) -> None:
    """Fetch the cell again, all of it."""
    years = ("--genres", str(GENRE), "--years", str(YEAR))
    assert stage.reelhaul("refresh", "--max-age", "0s", *years).returncode == 0


Fleet = tuple[EmulatorProcess, ChildProcess]


class TestRepair:
    def test_nothing_was_asked_for(self, stage: Stage) -> None:
        told = stage.reelhaul("verify")
        assert (told.returncode, len(told.stderr.splitlines())) == (2, 1)

    def test_a_gap_is_named_and_its_whole_cell_fetched_again(self, stage: Stage, fleet: Fleet) -> None:
        server, worker = fleet
        # Page 2 as it is when a movie of page 1 has slipped onto it: the one it displaced is on neither.
        page1, page2 = (stage.database["pages"].find_one({"_id": CELL.page(n).id}) or {} for n in (1, 2))
        shifted = [page1["movie_ids"][-1], *page2["movie_ids"][1:]]
        stage.database["pages"].update_one({"_id": page2["_id"]}, {"$set": {"movie_ids": shifted}})
        total = page1["total_results"]
        code, told = proof(stage)
        assert (code, told["pages_missing"], len(told["gaps"])) == (1, 0, 1)
        assert told["gaps"][0].items() >= {"cell": CELL.id, "found": total - 1, "said": total}.items()

        repaired = stage.reelhaul("verify", "--repair")
        assert (repaired.returncode, "1 of" in repaired.stdout) == (1, True)
        wait_for(lambda: proof(stage)[0] == 0, watching=[worker])
        asked = page_requests(server)
        assert asked == {CELL.page(n).id: 1 for n in range(1, page1["total_pages"] + 1)}

        stage.database["pages"].delete_one({"_id": page2["_id"]})
        code, told_again = proof(stage)
        assert (code, told_again["pages_missing"]) == (1, 1)

    def test_pages_that_tell_different_totals_are_all_fetched_again(self, stage: Stage, fleet: Fleet) -> None:
        server, worker = fleet
        server.configure(faults=["totals=+0/+1:match=[?&]page=2(&|$)"])
        refresh(stage)
        assert reasons(stage) == (1, ["totals"])
        server.configure(faults=[])
        server.reset()
        stage.reelhaul("verify", "--repair")
        wait_for(lambda: proof(stage)[0] == 0, watching=[worker])
        assert page_requests(server).keys() == stage.stored_pages().keys()


class TestShrinking:
    @pytest.mark.parametrize("totals", ["1/0", "0/0", "1/20"])
    def test_one_empty_page_1_drops_nothing(self, stage: Stage, fleet: Fleet, totals: str) -> None:
        server, _ = fleet
        stored = stage.stored_pages()
        server.configure(faults=[f"no-results={totals}:count=1:match={PAGE_1}"])
        refresh(stage)
        assert stage.stored_pages() == stored
        assert proof(stage)[0] == 0
        assert page_requests(server)[CELL.page(1).id] == 2

    @pytest.mark.parametrize(
        "faults",
        [
            ("totals=3/60:count=1:match=" + PAGE_1, "totals=4/75:count=1:match=[?&]page=4(&|$)"),
            ("no-results:count=1:match=" + PAGE_1, "no-results=5/96:count=1:match=[?&]page=2(&|$)"),
        ],
        ids=["it has movies", "it tells of far more"],
    )
    def test_it_takes_no_more_to_doubt_page_1(
        self, stage: Stage, fleet: Fleet, faults: tuple[str, str]
    ) -> None:
        server, _ = fleet
        stored = stage.stored_pages()
        assert len(stored) == 5
        server.configure(faults=faults)
        refresh(stage)
        assert stage.stored_pages() == stored

    def test_a_cell_of_one_page_is_not_emptied_at_once(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        movies = catalogue(server)
        year = next(
            year for year in range(1990, 1900, -1) if 0 < len(expected_cell(movies, GENRE, year)) < 20
        )
        years = ("--genres", str(GENRE), "--years", str(year))
        assert stage.reelhaul("backfill", *years).returncode == 0
        stored = stage.stored_pages()
        server.configure(faults=[f"no-results:count=1:match={PAGE_1}"])
        assert stage.reelhaul("refresh", "--max-age", "0s", *years).returncode == 0
        assert stage.stored_pages() == stored

    def test_what_a_second_answer_confirms_is_believed(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        cell = sorted(expected_cell(catalogue(server), GENRE, YEAR))
        pages = -(-len(cell) // 20)
        assert pages > 3
        delete(server, cell[25:])
        refresh(stage)
        assert stage.stored_pages().keys() == {CELL.page(1).id, CELL.page(2).id}
        assert proof(stage)[0] == 0
        # The second answer was the only request besides.
        assert page_requests(server) == {CELL.page(1).id: 1, CELL.page(2).id: 1, CELL.page(3).id: 1}

    def test_no_such_page_in_tmdbs_own_words_confirms_it_too(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        cell = sorted(expected_cell(catalogue(server), GENRE, YEAR))
        delete(server, cell[5:])
        server.configure(faults=["error=22:match=[?&]page=2(&|$)"])
        refresh(stage)
        assert stage.stored_pages().keys() == {CELL.page(1).id}

    def test_a_page_less_is_believed_at_once(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        cell = sorted(expected_cell(catalogue(server), GENRE, YEAR))
        pages = -(-len(cell) // 20)
        delete(server, cell[-(len(cell) % 20 or 20) :])
        refresh(stage)
        assert len(stage.stored_pages()) == pages - 1
        assert page_requests(server) == {CELL.page(n).id: 1 for n in range(1, pages)}


def delete(server: EmulatorProcess, ids: Sequence[int]) -> None:
    address = f"http://127.0.0.1:{server.port}/_emulator/movies"
    assert requests.post(address, json={"delete": ids}, timeout=PATIENCE_S).status_code == 200
