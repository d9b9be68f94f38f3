"""What is stored of each cell, as `status` counts it and as the sweep enqueues it."""

from datetime import datetime, timedelta
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from producer.coverage import CoverageIndex
from producer.drift import RECHECKS, WHOLE, Unchecked, rechecks
from tests.support.pages import AT, in_threads, put
from worker.errors import Rejected
from worker.keys import Cell, Fetch
from worker.storage.database import Storage
from worker.storage.documents import Checked
from worker.storage.page_counts import Count, count_pages

CELL = Cell(18, "1999")
KEY = CELL.page(1)
#: For each page when it was stored and when it failed; None: never.
BEFORE = AT - timedelta(hours=1)
FATES = st.tuples(st.sampled_from([None, BEFORE, AT]), st.sampled_from([None, BEFORE, AT]))


class TestCoverage:
    #: A quarantined page beyond the end, one that was stored before it failed, stale pages beyond the end.
    BEYOND_FAILED: ClassVar = [(AT, None), *[(None, None)] * 4, (None, AT)]
    STORED_THEN_FAILED: ClassVar = [(AT, None), (BEFORE, AT), *[(None, None)] * 4]
    BEYOND_STALE: ClassVar = [(AT, None), *[(None, None)] * 3, (BEFORE, None), (AT, None)]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example(2, BEYOND_FAILED, None)
    @example(3, STORED_THEN_FAILED, None)
    @example(0, BEYOND_STALE, AT)
    @given(st.integers(0, 4), st.lists(FATES, min_size=6, max_size=6), st.sampled_from([None, AT]))
    def test_counts_as_missing_what_is_enqueued(
        self,
        storage: Storage,
        total_pages: int,
        fates: list[tuple[datetime | None, datetime | None]],
        fresh_after: datetime | None,
    ) -> None:
        for collection in (storage.pages.collection, storage.failures.collection):
            collection.delete_many({})
        for number, (stored_at, failed_at) in enumerate(fates, start=1):
            if stored_at:
                put(storage, CELL.page(number), total_pages, at=stored_at)
            if failed_at:
                storage.failures.add(Fetch(CELL.page(number)), Rejected("no"), failed_at)
        enqueued = list(storage.pages.missing([CELL], fresh_after))
        coverage = CoverageIndex.read(storage, [fresh_after])[fresh_after].coverage(CELL)
        assert coverage.missing == len(enqueued)

    def test_a_record_counts_by_its_id_whatever_its_other_fields_hold(self, storage: Storage) -> None:
        put(storage, KEY, 3)
        for number, fields in ((2, {"page": [2]}), (3, {"genre_id": None, "window": 1999})):
            put(storage, CELL.page(number), 3)
            storage.pages.collection.update_one({"_id": CELL.page(number).id}, {"$set": fields})
        assert list(storage.pages.missing([CELL], None)) == []
        assert CoverageIndex.read(storage, [None])[None].coverage(CELL).missing == 0

    def test_counts_by_moment(self, storage: Storage) -> None:
        for number, offset_s in ((1, -60), (2, 0), (3, 60)):
            put(storage, CELL.page(number), 3, at=AT + timedelta(seconds=offset_s))
        other = Cell(35, "1999-01-01/1999-06-30")
        before = AT - timedelta(milliseconds=1)
        put(storage, other.page(1), 1, at=before)
        later, newest = AT + timedelta(seconds=61), AT + timedelta(seconds=60)
        expected = {
            None: {CELL.id: Count({1, 2, 3}, 3, newest), other.id: Count({1}, 1, before)},
            before: {CELL.id: Count({2, 3}, None, newest), other.id: Count({1}, 1, before)},
            AT: {CELL.id: Count({2, 3}, None, newest)},
            later: {},
        }
        latest = storage.mongo.latest()
        assert count_pages(storage.pages, expected, latest) == expected
        assert count_pages(storage.pages, [AT], latest) == {AT: expected[AT]}
        assert count_pages(storage.pages, [], latest) == {}
        # The same with the indexes, which many producers may create at once.
        assert in_threads([[None]] * 8, lambda _: storage.pages.create_indexes()) == []
        assert sorted(storage.pages.collection.index_information()) == ["_id_", "fetched_at_1", "page_1"]
        assert count_pages(storage.pages, expected, latest) == expected
        put(storage, other.page(1), 1, at=later)
        assert count_pages(storage.pages, [later], latest) == {later: {other.id: Count({1}, 1, later)}}

    def test_a_split_cell_counts_its_page_1_and_both_halves(self, storage: Storage) -> None:
        put(storage, KEY, 501)
        put(storage, CELL.page(2), 501)  # from before, when the cell was smaller
        first, second = CELL.parts(501)
        put(storage, first.page(1), 3)
        put(storage, first.page(3), 3)
        coverage = CoverageIndex.read(storage, [None])[None].coverage(CELL)
        assert coverage.as_dict() == {
            "cells": 1,
            "opened": 1,
            "pages_planned": 1 + 3 + 1,
            "pages_stored": 1 + 2,
            "missing": 2,
            "quarantined": 0,
            "short": 0,
        }
        put(storage, first.page(2), 3)
        put(storage, second.page(1), 1)
        assert CoverageIndex.read(storage, [None])[None].coverage(CELL).missing == 0


class TestUnchecked:
    """Cells that are complete, and were not compared with their totals since their newest page."""

    def unchecked(self, storage: Storage) -> list[Cell]:
        return [cell for cell, _ in CoverageIndex.read(storage, [None])[None].unchecked(CELL)]

    def test_a_cell_is_checked_until_a_page_is_newer(self, storage: Storage) -> None:
        put(storage, KEY, 2)
        assert self.unchecked(storage) == []
        put(storage, CELL.page(2), 2, at=AT + timedelta(seconds=1))
        assert self.unchecked(storage) == [CELL]
        storage.pages.mark_checked([(CELL, Checked(AT + timedelta(seconds=1), 3))])
        assert self.unchecked(storage) == []
        assert CoverageIndex.read(storage, [None])[None].coverage(CELL).short == 3
        put(storage, CELL.page(2), 2, at=AT + timedelta(seconds=2))
        assert self.unchecked(storage) == [CELL]

    def test_the_halves_are_checked_before_the_cell(self, storage: Storage) -> None:
        put(storage, KEY, 501)
        first, second = CELL.parts(501)
        put(storage, first.page(1), 1)
        assert self.unchecked(storage) == [first]
        put(storage, second.page(1), 1)
        assert self.unchecked(storage) == [first, second, CELL]
        for half in (first, second):
            storage.pages.mark_checked([(half, Checked(AT, 0))])
        assert self.unchecked(storage) == [CELL]

    def test_page_1_of_a_split_cell_is_asked_for_again_while_its_halves_count_otherwise(
        self, storage: Storage
    ) -> None:
        """Three times; the halves stay as they are."""
        put(storage, KEY, 501)
        first, second = CELL.parts(501)
        for half in (first, second):
            put(storage, half.page(1), 1)
        storage.pages.collection.update_one({"_id": KEY.id}, {"$set": {"total_results": 5}})
        for number in range(RECHECKS):
            [again] = rechecks(storage, [Unchecked(CELL, AT)])
            assert (again.key, again.options) == (KEY, (number + 1,))
            storage.pages.collection.update_one({"_id": KEY.id}, {"$set": {"recheck": number + 1}})
        assert list(rechecks(storage, [Unchecked(CELL, AT)])) == []
        assert self.unchecked(storage) == [first, second]
        assert list(rechecks(storage, [Unchecked(first, AT), Unchecked(second, AT)])) == []
        assert self.unchecked(storage) == []

    def test_a_split_cell_counts_fewer_before_and_more_after_its_halves(self, storage: Storage) -> None:
        """A movie came while the first half was read, and one more afterwards."""
        first, second = CELL.parts(501)
        for cell, movies in ((CELL, 5), (first, 4), (second, 2)):
            put(storage, cell.page(1), 501 if cell == CELL else 1)
            storage.pages.collection.update_one({"_id": cell.page(1).id}, {"$set": {"total_results": movies}})
        [again] = rechecks(storage, [Unchecked(CELL, AT)])
        assert again.key == KEY
        change = {"$set": {"total_results": 7, "recheck": 1}}
        storage.pages.collection.update_one({"_id": KEY.id}, change)
        assert list(rechecks(storage, [Unchecked(CELL, AT)])) == []
        assert CoverageIndex.read(storage, [None])[None].coverage(CELL).short == 0

    def test_a_split_cell_waits_for_its_halves(self, storage: Storage) -> None:
        put(storage, KEY, 501)
        first, second = CELL.parts(501)
        for half in (first, second):
            put(storage, half.page(1), 1)
            storage.pages.collection.update_one({"_id": half.page(1).id}, {"$set": {"total_results": 1}})
        cells = [Unchecked(cell, AT) for cell in (first, second, CELL)]
        assert [fetch.key.cell for fetch in rechecks(storage, cells)] == [first, second]
        assert self.unchecked(storage) == [first, second, CELL]

    def test_what_cannot_be_fetched_again_is_not_asked_for(self, storage: Storage) -> None:
        put(storage, KEY, 1)
        storage.pages.collection.update_one({"_id": KEY.id}, {"$set": {"total_results": 7}})
        [again] = rechecks(storage, [Unchecked(CELL, AT)])
        storage.failures.add(again, Rejected("no"), AT + timedelta(seconds=1))
        assert list(rechecks(storage, [Unchecked(CELL, AT)])) == []
        assert CoverageIndex.read(storage, [None])[None].coverage(CELL).short > 0

    @pytest.mark.parametrize("stale", [0, 1])
    def test_page_1_of_the_end_that_was_read_earlier_is_asked_for_again(
        self, storage: Storage, stale: int
    ) -> None:
        """A movie came after one end of a day was read and before the other was."""
        day = Cell(18, "1999-01-01/1999-01-01")
        ends = [day, *day.parts(501)]
        for number, cell in enumerate(ends):
            later = timedelta(seconds=number if stale == 0 else -number)
            put(storage, cell.page(1), 501, at=AT + later)
            total = {"$set": {"total_results": number}}
            storage.pages.collection.update_one({"_id": cell.page(1).id}, total)
        for number in range(WHOLE):
            [again] = rechecks(storage, [Unchecked(day, AT)])
            assert (again.key, again.options) == (ends[stale].page(1), (number + 1,))
            more = {"$set": {"recheck": number + 1}}
            storage.pages.collection.update_one({"_id": again.key.id}, more)
        assert list(rechecks(storage, [Unchecked(day, AT)])) == []
