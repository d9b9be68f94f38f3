"""`reelhaul verify`: what proves a cell, what does not, and how --repair closes a gap."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producer.completeness import Reason, check_cells
from sandbox.processes import ChildProcess
from sandbox.servers import EmulatorProcess
from tests.support.comparison import expected_cell, page_requests
from tests.support.stage import Stage, wait_for
from worker.errors import Rejected
from worker.keys import Cell, Fetch, PageKey
from worker.storage.database import Storage
from worker.storage.pages import PageStore

GENRE, YEAR = 18, 2024
CELL = Cell(GENRE, str(YEAR))
DAY = Cell(GENRE, f"{YEAR}-01-01/{YEAR}-01-01")
FIRST, SECOND = CELL.parts(501)
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PAGE_1 = "[?&]page=1(&|$)"


def verify(stage: Stage) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of `reelhaul verify`."""
    ended = stage.reelhaul("verify", "--json")
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def reasons(stage: Stage) -> tuple[int, list[str]]:
    code, found = verify(stage)
    return code, [gap["reason"] for gap in found["gaps"]]


class Records:
    """Writes page records as a worker does."""

    def __init__(self, stage: Stage) -> None:
        self._database = stage.database
        self.storage = Storage(stage.database)
        request = {
            "kind": "backfill",
            "genres": [{"id": GENRE, "name": "Drama"}],
            "years": [YEAR],
            "max_age_s": None,
        }
        self.storage.requests.save("of a test", {**request, "requested_at": AT, "schedule_entry": ""})

    def put(
        self, key: PageKey, ids: Sequence[int], pages: int, results: int, at: datetime = AT, **odd: Any
    ) -> None:
        record = {
            "_id": key.id,
            **key._asdict(),
            "total_pages": pages,
            "total_results": results,
            "movie_ids": list(ids),
            "fetched_at": at,
            "sha256": "0",
        }
        self._database["pages"].insert_one({**record, **odd})
        for id_ in ids:
            self._database["movies"].update_one(
                {"_id": id_}, {"$set": {"id": id_, "_meta": {"fetched_at": at}}}, upsert=True
            )

    def put_pages(
        self, cell: Cell, pages: Sequence[Sequence[int]], total_pages: int, results: int, at: datetime = AT
    ) -> None:
        """Pages 1 to N of a cell, in one go."""
        totals = {"total_pages": total_pages, "total_results": results, "fetched_at": at, "sha256": "0"}
        keys = [(cell.page(number), ids) for number, ids in enumerate(pages, 1)]
        self._database["pages"].insert_many(
            {"_id": key.id, **key._asdict(), "movie_ids": list(ids), **totals} for key, ids in keys
        )
        missing = {id_ for ids in pages for id_ in ids} - {
            movie["_id"] for movie in self._database["movies"].find({}, {"_id": 1})
        }
        if missing:
            movies = ({"_id": id_, "id": id_, "_meta": {"fetched_at": AT}} for id_ in missing)
            self._database["movies"].insert_many(movies)

    def put_cell(self, cell: Cell = CELL, first: int = 0, at: datetime = AT) -> None:
        """45 movies on three pages."""
        for number, ids in ((1, range(20)), (2, range(20, 40)), (3, range(40, 45))):
            self.put(cell.page(number), [first + id_ for id_ in ids], 3, 45, at + number * MINUTE)


@pytest.fixture
def records(stage: Stage) -> Records:
    return Records(stage)


class TestGaps:
    def test_three_complete_pages_prove_their_cell(self, stage: Stage, records: Records) -> None:
        records.put_cell()
        nothing = {"pages_missing": 0, "unreachable": 0, "cancelled": 0, "gaps": []}
        assert verify(stage) == (0, {"cells": 1, **nothing})

    def test_nothing_is_stored(self, stage: Stage, records: Records) -> None:
        code, found = verify(stage)
        assert (code, found["pages_missing"]) == (1, 1)
        assert found["gaps"][0]["reason"] == "missing"
        assert records.storage.pages.count() == 0

    def test_the_only_page_is_in_quarantine(self, stage: Stage, records: Records) -> None:
        records.storage.failures.add(Fetch(CELL.page(1)), Rejected("HTTP 404"), AT)
        code, found = verify(stage)
        assert (code, found["pages_missing"]) == (1, 0)
        assert [gap["quarantined"] for gap in found["gaps"]] == [["18:2024:1"]]
        shown = stage.reelhaul("verify").stdout
        assert "18:2024:1" in shown
        assert "reelhaul failures" in shown

    def test_a_page_in_quarantine_is_a_gap_even_if_an_older_record_is_stored(
        self, stage: Stage, records: Records
    ) -> None:
        records.put_cell()
        records.storage.failures.add(Fetch(CELL.page(3)), Rejected("HTTP 404"), AT + timedelta(days=1))
        assert reasons(stage) == (1, ["quarantined"])

    def test_a_newer_page_states_more_movies_than_page_1(self, stage: Stage, records: Records) -> None:
        records.put(CELL.page(1), range(20), 2, 40)
        records.put(CELL.page(2), range(20, 40), 3, 41, AT + MINUTE)
        assert reasons(stage) == (1, ["totals"])

    @pytest.mark.parametrize(("pages", "results"), [(2, 41), (3, 40)])
    def test_only_one_of_the_totals_differs(
        self, stage: Stage, records: Records, pages: int, results: int
    ) -> None:
        records.put(CELL.page(1), range(20), 2, 40)
        records.put(CELL.page(2), range(20, 40), pages, results, AT + MINUTE)
        assert reasons(stage) == (1, ["totals"])

    def test_an_old_page_beyond_the_end_hides_no_gap(self, stage: Stage, records: Records) -> None:
        records.put(CELL.page(1), range(20), 2, 40, AT)
        records.put(CELL.page(2), range(19, 39), 2, 40, AT + MINUTE)
        records.put(CELL.page(3), range(38, 40), 3, 41, AT - MINUTE)
        code, found = verify(stage)
        assert (code, found["gaps"][0]["reason"]) == (1, "short")
        assert (found["gaps"][0]["found"], found["gaps"][0]["expected"]) == (39, 40)

    def test_a_page_is_older_than_page_1(self, stage: Stage, records: Records) -> None:
        records.put(CELL.page(1), range(20), 2, 40, AT)
        records.put(CELL.page(2), range(20, 40), 2, 40, AT - timedelta(milliseconds=1))
        code, found = verify(stage)
        assert (code, found["gaps"][0]["reason"], found["gaps"][0]["found"]) == (1, "older", 20)

    def test_more_movies_than_tmdb_states(self, stage: Stage, records: Records) -> None:
        records.put(CELL.page(1), range(20), 2, 39)
        records.put(CELL.page(2), range(20, 40), 2, 39, AT + MINUTE)
        assert reasons(stage) == (1, ["surplus"])

    def test_movies_on_a_page_are_not_stored(self, stage: Stage, records: Records) -> None:
        records.put_cell()
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
    def test_a_record_is_unreadable(
        self, stage: Stage, records: Records, number: int, odd: dict[str, Any]
    ) -> None:
        records.put_cell()
        stage.database["pages"].update_one({"_id": CELL.page(number).id}, {"$set": odd})
        code, found = verify(stage)
        assert (code, [gap["reason"] for gap in found["gaps"]]) == (1, ["unreadable"])


class TestSplitWindows:
    @pytest.fixture
    def split(self, records: Records) -> Records:
        records.put(CELL.page(1), range(20), 501, 90)
        records.put_cell(FIRST, at=AT + MINUTE)
        records.put_cell(SECOND, first=100, at=AT + MINUTE)
        return records

    def test_two_complete_halves_prove_the_cell(self, stage: Stage, split: Records) -> None:
        assert split.storage.pages.count() == 7
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
    def test_a_problem_of_a_half_is_a_problem_of_the_cell(
        self, stage: Stage, split: Records, number: int, change: dict[str, Any], reason: str
    ) -> None:
        assert split.storage.pages.count() == 7
        stage.database["pages"].update_one({"_id": SECOND.page(number).id}, {"$set": change})
        assert reasons(stage) == (1, [reason])

    def test_a_half_is_older_than_the_split(self, stage: Stage, split: Records) -> None:
        assert split.storage.pages.count() == 7
        later = {"$set": {"fetched_at": AT + timedelta(hours=1)}}
        stage.database["pages"].update_one({"_id": CELL.page(1).id}, later)
        assert reasons(stage) == (1, ["older"])

    @pytest.mark.parametrize(("before", "now", "found"), [(89, 91, []), (91, 89, []), (91, 92, ["short"])])
    def test_page_1_that_was_asked_for_again_counts_more_and_fewer_than_the_halves(
        self, stage: Stage, split: Records, before: int, now: int, found: list[str]
    ) -> None:
        later = {"total_results": now, "fetched_at": AT + timedelta(hours=1), "recheck": 1}
        noted = {"$set": {**later, "checked": {"counted_before": before}}}
        stage.database["pages"].update_one({"_id": CELL.page(1).id}, noted)
        assert split.storage.pages.count() == 7
        assert reasons(stage)[1] == found

    def test_a_half_has_a_page_in_quarantine(self, stage: Stage, split: Records) -> None:
        split.storage.failures.add(Fetch(SECOND.page(2)), Rejected("HTTP 404"), AT + timedelta(days=1))
        code, found = verify(stage)
        assert (code, [gap["quarantined"] for gap in found["gaps"]]) == (1, [[SECOND.page(2).id]])


class TestHeaps:
    """1 January has more movies than both of its ends show; the year's other days have none.

    TMDB counts 26,000 movies on 1,300 pages. One movie a page is stored here, 500 pages from either end.
    """

    @pytest.fixture
    def heap(self, records: Records) -> Records:
        cell, at = CELL, datetime.now(UTC) - timedelta(hours=1)
        while cell != DAY:
            first, second = cell.parts(501)
            records.put(cell.page(1), [], 1300, 26_000, at)
            records.put(second.page(1), [], 1, 0, at)
            cell = first
        end, *languages = DAY.parts(1300)
        records.put_pages(DAY, [[number] for number in range(1, 501)], 1300, 26_000, at)
        records.put_pages(end, [[1000 - number] for number in range(500)], 1300, 26_000, at)
        for language in languages:
            ids = [1, 1000, 5001] if language.window.endswith(",fr") else []
            records.put_pages(language, [ids], 1, len(ids), at)
        return records

    def test_what_is_out_of_reach_is_counted(self, stage: Stage, heap: Records) -> None:
        assert heap.storage.pages.count() > 1000
        code, found = verify(stage)
        [gap] = found["gaps"]
        assert (code, found["pages_missing"], gap["reason"]) == (1, 0, "too-large"), gap["text"]
        assert found["unreachable"] == gap["unreachable"] == 26_000 - len(stage.stored_movies())
        assert gap["found"] == len(stage.stored_movies()) == 1001
        assert "24,999 of 26,000 movies of 18:2024-01-01/2024-01-01 are on no page" in gap["text"]
        assert stage.progress()["unreachable"] == 24_999
        assert "24,999 movies out of reach" in " ".join(stage.reelhaul("status").stdout.split())

    def test_nothing_is_out_of_reach_while_pages_are_missing(self, stage: Stage, heap: Records) -> None:
        assert stage.database["pages"].delete_one({"_id": f"{DAY.id},desc:500"}).deleted_count == 1
        code, found = verify(stage)
        assert (code, found["pages_missing"], found["unreachable"]) == (1, 1, 0)
        assert stage.progress()["unreachable"] == 0
        assert heap.storage.pages.count() > 1000

    def test_a_language_that_is_short_is_not_out_of_reach(self, stage: Stage, heap: Records) -> None:
        change = {"$set": {"total_results": 4}}
        assert stage.database["pages"].update_one({"_id": f"{DAY.id},fr:1"}, change).matched_count == 1
        assert heap.storage.pages.count() > 1000
        assert reasons(stage) == (1, ["short"])

    def test_both_ends_state_the_same_totals(self, stage: Stage, heap: Records) -> None:
        change = {"$set": {"total_results": 26_001}}
        pages = {"_id": {"$regex": ",desc:"}}
        assert stage.database["pages"].update_many(pages, change).matched_count == 500
        assert heap.storage.pages.count() > 1000
        assert reasons(stage) == (1, ["totals"])


def test_a_page_1_that_is_fetched_again_during_the_check_proves_nothing(
    stage: Stage, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.put_cell()
    read_first_pages = PageStore.first_pages

    def first_pages(store: PageStore) -> Any:
        found = read_first_pages(store)
        newer = {"$set": {"fetched_at": AT + timedelta(days=1)}}
        stage.database["pages"].update_one({"_id": CELL.page(1).id}, newer)
        return found

    monkeypatch.setattr(PageStore, "first_pages", first_pages)
    [check] = check_cells(records.storage, [CELL])
    assert check.problem
    assert check.problem.reason is Reason.CHANGING


@pytest.fixture
def fleet(stage: Stage) -> tuple[EmulatorProcess, ChildProcess]:
    """An emulated TMDB, and a worker that has fetched the cell."""
    server = stage.emulator("--movies", "8000")
    worker = stage.worker()
    assert stage.reelhaul("backfill", "--genres", str(GENRE), "--years", str(YEAR)).returncode == 0
    assert verify(stage)[0] == 0
    server.reset()
    return server, worker


def refresh(stage: Stage) -> None:
    """Fetch the whole cell again."""
    years = ("--genres", str(GENRE), "--years", str(YEAR))
    assert stage.reelhaul("refresh", "--max-age", "0s", *years).returncode == 0


Fleet = tuple[EmulatorProcess, ChildProcess]


class TestRepair:
    def test_verify_without_a_backfill_is_a_usage_error(self, stage: Stage) -> None:
        ended = stage.reelhaul("verify")
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)

    def test_repair_fetches_the_whole_cell_again(self, stage: Stage, fleet: Fleet) -> None:
        server, worker = fleet
        # As if a movie had moved from page 1 to page 2: the movie that it displaced is on neither page.
        page1, page2 = (stage.database["pages"].find_one({"_id": CELL.page(n).id}) or {} for n in (1, 2))
        shifted = [page1["movie_ids"][-1], *page2["movie_ids"][1:]]
        stage.database["pages"].update_one({"_id": page2["_id"]}, {"$set": {"movie_ids": shifted}})
        total = page1["total_results"]
        code, found = verify(stage)
        assert (code, found["pages_missing"], len(found["gaps"])) == (1, 0, 1)
        assert found["gaps"][0].items() >= {"cell": CELL.id, "found": total - 1, "expected": total}.items()

        repaired = stage.reelhaul("verify", "--repair")
        assert (repaired.returncode, "1 of" in repaired.stdout) == (1, True)
        wait_for(lambda: verify(stage)[0] == 0, watching=[worker])
        counts = page_requests(server)
        assert counts == {CELL.page(n).id: 1 for n in range(1, page1["total_pages"] + 1)}

        stage.database["pages"].delete_one({"_id": page2["_id"]})
        code, found_again = verify(stage)
        assert (code, found_again["pages_missing"]) == (1, 1)

    def test_repair_fetches_all_pages_whose_totals_differ(self, stage: Stage, fleet: Fleet) -> None:
        server, worker = fleet
        page_2 = {"_id": CELL.page(2).id}
        stage.database["pages"].update_one(page_2, {"$inc": {"total_results": 1}})
        assert reasons(stage) == (1, ["totals"])
        stage.reelhaul("verify", "--repair")
        wait_for(lambda: verify(stage)[0] == 0, watching=[worker])
        assert page_requests(server).keys() == stage.stored_pages().keys()


class TestShrinking:
    def test_a_single_empty_page_1_deletes_nothing(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        stored = stage.stored_pages()
        for totals in ("1/0", "0/0", "1/20"):
            server.reset()
            server.configure(faults=[f"no-results={totals}:count=1:match={PAGE_1}"])
            refresh(stage)
            assert stage.stored_pages() == stored
            assert verify(stage)[0] == 0
            assert page_requests(server)[CELL.page(1).id] == 2

    def test_the_page_beyond_the_end_contradicts_page_1(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        stored = stage.stored_pages()
        assert len(stored) == 5
        for faults in (
            # It holds movies.
            (f"totals=3/60:count=1:match={PAGE_1}", "totals=4/75:count=1:match=[?&]page=4(&|$)"),
            # It states far more movies.
            (f"no-results:count=1:match={PAGE_1}", "no-results=5/96:count=1:match=[?&]page=2(&|$)"),
        ):
            server.configure(faults=faults)
            refresh(stage)
            assert stage.stored_pages() == stored

    def test_a_cell_of_one_page_is_not_emptied_at_once(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        movies = server.movies()
        year = next(
            year for year in range(1990, 1900, -1) if 0 < len(expected_cell(movies, GENRE, year)) < 20
        )
        years = ("--genres", str(GENRE), "--years", str(year))
        assert stage.reelhaul("backfill", *years).returncode == 0
        stored = stage.stored_pages()
        server.configure(faults=[f"no-results:count=1:match={PAGE_1}"])
        assert stage.reelhaul("refresh", "--max-age", "0s", *years).returncode == 0
        assert stage.stored_pages() == stored

    def test_a_shrinkage_that_a_second_response_confirms_is_saved(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        cell = sorted(expected_cell(server.movies(), GENRE, YEAR))
        pages = -(-len(cell) // 20)
        assert pages > 3
        server.change_movies(delete=cell[25:])
        refresh(stage)
        assert stage.stored_pages().keys() == {CELL.page(1).id, CELL.page(2).id}
        assert verify(stage)[0] == 0
        # The only other request was the one that confirmed it.
        assert page_requests(server) == {CELL.page(1).id: 1, CELL.page(2).id: 1, CELL.page(3).id: 1}

    def test_no_such_page_in_tmdbs_words_confirms_a_shrinkage(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        cell = sorted(expected_cell(server.movies(), GENRE, YEAR))
        server.change_movies(delete=cell[5:])
        server.configure(faults=["error=22:match=[?&]page=2(&|$)"])
        refresh(stage)
        assert stage.stored_pages().keys() == {CELL.page(1).id}

    def test_a_cell_one_page_shorter_is_saved_at_once(self, stage: Stage, fleet: Fleet) -> None:
        server, _ = fleet
        cell = sorted(expected_cell(server.movies(), GENRE, YEAR))
        pages = -(-len(cell) // 20)
        server.change_movies(delete=cell[-(len(cell) % 20 or 20) :])
        refresh(stage)
        assert len(stage.stored_pages()) == pages - 1
        assert page_requests(server) == {CELL.page(n).id: 1 for n in range(1, pages)}
