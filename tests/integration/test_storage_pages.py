"""Page records: which pages are fresh, which are missing, which are deleted when a cell gets shorter."""

from datetime import datetime, timedelta

import pytest

from tests.support.pages import AT, page_of, put
from worker.errors import Rejected
from worker.keys import OVERLAP, Cell, Fetch
from worker.storage.database import Storage

CELL = Cell(18, "1999")
KEY = CELL.page(1)
HOUR = timedelta(hours=1)


def test_a_page_is_fresh_if_requested_since(storage: Storage) -> None:
    assert not storage.pages.is_fresh(KEY, None)
    put(storage, KEY, 7)
    assert storage.pages.is_fresh(KEY, None)
    assert storage.pages.is_fresh(KEY, AT)
    assert not storage.pages.is_fresh(KEY, AT + timedelta(milliseconds=1))


class TestMissing:
    def missing(self, storage: Storage, *cells: Cell, fresh_after: datetime | None = None) -> list[str]:
        return [key.id for key in storage.pages.missing(cells or [CELL], fresh_after)]

    def test_page_1_of_an_unknown_cell(self, storage: Storage) -> None:
        assert self.missing(storage) == ["18:1999:1"]
        assert list(storage.pages.missing([], None)) == []

    @pytest.mark.parametrize("total_pages", [0, 1])
    def test_nothing_of_a_cell_of_one_page_or_none(self, storage: Storage, total_pages: int) -> None:
        put(storage, KEY, total_pages)
        assert self.missing(storage) == []

    def test_pages_up_to_the_total_that_are_not_stored(self, storage: Storage) -> None:
        put(storage, KEY, 5)
        put(storage, CELL.page(3), 5)
        assert self.missing(storage) == ["18:1999:2", "18:1999:4", "18:1999:5"]

    def test_page_1_alone_while_it_is_missing(self, storage: Storage) -> None:
        put(storage, CELL.page(2), 5)
        assert self.missing(storage) == ["18:1999:1"]

    def test_records_beyond_the_total_are_ignored(self, storage: Storage) -> None:
        put(storage, KEY, 3)
        for number in (3, 4, 5, 6):
            put(storage, CELL.page(number), 6)
        assert self.missing(storage) == ["18:1999:2"]

    def test_the_latest_page_1_counts(self, storage: Storage) -> None:
        put(storage, KEY, 2)
        put(storage, KEY, 3, at=AT + timedelta(seconds=1))
        assert self.missing(storage) == ["18:1999:2", "18:1999:3"]

    def test_pages_older_than_requested(self, storage: Storage) -> None:
        put(storage, KEY, 3, at=AT)
        put(storage, CELL.page(2), 3, at=AT - timedelta(milliseconds=1))
        put(storage, CELL.page(3), 3, at=AT)
        assert self.missing(storage, fresh_after=AT) == ["18:1999:2"]
        assert self.missing(storage, fresh_after=AT + timedelta(milliseconds=1)) == ["18:1999:1"]

    def test_pages_in_quarantine_are_not_missing(self, storage: Storage) -> None:
        put(storage, KEY, 3)
        storage.failures.add(Fetch(CELL.page(2)), Rejected("no"), AT)
        other = Cell(35, "1999")
        storage.failures.add(Fetch(other.page(1)), Rejected("no"), AT)
        assert self.missing(storage, CELL, other) == ["18:1999:3"]

    def test_pages_quarantined_before_a_refresh_are_missing(self, storage: Storage) -> None:
        put(storage, KEY, 2, at=AT)
        storage.failures.add(Fetch(CELL.page(2)), Rejected("no"), AT - timedelta(seconds=1))
        assert self.missing(storage, fresh_after=AT) == ["18:1999:2"]
        assert self.missing(storage) == []

    def test_both_halves_of_a_cell_above_500_pages(self, storage: Storage) -> None:
        put(storage, KEY, 501)
        first, second = CELL.parts(501)
        assert self.missing(storage) == [first.page(1).id, second.page(1).id]
        put(storage, first.page(1), 2)
        assert self.missing(storage) == [first.page(2).id, second.page(1).id]
        put(storage, second.page(1), 501)
        quarters = [half.page(1).id for half in second.parts(501)]
        assert sorted(self.missing(storage)) == sorted([first.page(2).id, *quarters])

    def test_both_ends_of_a_single_day(self, storage: Storage) -> None:
        day, end = (Cell(18, f"1999-01-01/1999-01-01{order}") for order in ("", ",desc"))
        put(storage, day.page(1), 733)
        rest = [day.page(number).id for number in range(2, 501)]
        assert sorted(self.missing(storage, day)) == sorted([*rest, end.page(1).id])
        put(storage, end.page(1), 733)
        rest += [end.page(number).id for number in range(2, 733 - 500 + OVERLAP + 1)]
        assert sorted(self.missing(storage, day)) == sorted(rest)

    def test_many_cells_in_order(self, storage: Storage) -> None:
        cells = [Cell(genre, str(year)) for year in range(1900, 1950) for genre in (18, 35, 27)]
        assert self.missing(storage, *cells) == [cell.page(1).id for cell in cells]


class TestDropBeyond:
    def test_records_beyond_the_end_are_deleted_unless_newer(self, storage: Storage) -> None:
        for number in range(1, 6):
            at = AT + 2 * HOUR if number == 4 else AT
            page = page_of([{"id": number}], number=number, total_pages=5, at=at)
            storage.pages.save(CELL.page(number), page)
        assert storage.pages.drop_beyond(CELL, 2, AT + HOUR) == 2
        assert {record["page"] for record in storage.pages.collection.find()} == {1, 2, 4}
        assert storage.movies.count() == 5
        assert storage.pages.drop_beyond(Cell(35, "1999"), 0, AT) == 0  # an unknown cell

    def test_halves_of_a_cell_that_is_no_longer_split_are_deleted(self, storage: Storage) -> None:
        put(storage, KEY, 501)
        for half in CELL.parts(501):
            for number in (1, 2):
                put(storage, half.page(number), 2)
        assert storage.pages.drop_beyond(CELL, 500, AT + HOUR) == 4
        assert [record["_id"] for record in storage.pages.collection.find()] == [KEY.id]

    def test_an_older_page_1_deletes_nothing(self, storage: Storage) -> None:
        put(storage, KEY, 2, AT + HOUR)
        put(storage, CELL.page(2), 2, AT)
        assert storage.pages.drop_beyond(CELL, 1, AT + HOUR / 2) == 0
        assert storage.pages.count() == 2
