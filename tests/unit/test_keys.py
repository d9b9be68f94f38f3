"""Windows, cells and keys: how they are written, parsed and split."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.errors import UsageError
from worker.keys import (
    LAST_MOVIE,
    MAX_PAGE,
    Cell,
    ChangesKey,
    Fetch,
    Key,
    MovieKey,
    PageKey,
    PopularKey,
    TotalsKey,
    parse_key,
)
from worker.windows import FIRST_YEAR, LAST_YEAR, Window

DAYS = st.dates(date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 12, 31))
WINDOWS = st.tuples(DAYS, DAYS).map(lambda ends: Window(min(ends), max(ends)))
YEARS = st.integers(FIRST_YEAR, LAST_YEAR)
CELLS = st.builds(Cell, st.integers(1, 99_999), WINDOWS.map(str))


def days_of(window: Window) -> list[date]:
    return [window.first + timedelta(days=n) for n in range((window.last - window.first).days + 1)]


class TestWindow:
    @given(WINDOWS)
    def test_what_is_written_can_be_parsed(self, window: Window) -> None:
        assert Window.parse(str(window)) == window

    @given(YEARS)
    def test_a_whole_year_is_written_as_the_year(self, year: int) -> None:
        window = Window.parse(f"{year}-01-01/{year}-12-31")
        assert str(window) == str(year)
        assert window == Window.of_year(year) == Window.parse(str(year))

    @given(DAYS, st.integers(1, 1500))
    def test_halves_make_up_the_window(self, first_day: date, more: int) -> None:
        window = Window(first_day, first_day + timedelta(days=more))
        first, second = window.halves()
        assert days_of(first) + days_of(second) == days_of(window)
        assert abs(len(days_of(first)) - len(days_of(second))) <= 1

    @given(YEARS)
    def test_halving_ends_at_each_day_once(self, year: int) -> None:
        open_windows, days = [Window.of_year(year)], []
        while open_windows:
            window = open_windows.pop()
            halves = window.halves()
            open_windows.extend(reversed(halves))
            if not halves:
                days.append(window)
        assert [day.first for day in days] == days_of(Window.of_year(year))

    @given(DAYS)
    def test_a_single_day_has_no_halves(self, day: date) -> None:
        assert Window(day, day).halves() == ()

    @pytest.mark.parametrize(
        "text",
        [
            *("", "99", "19990", "1999 ", " 1999", "1999-01", "1999-01-01", "-1999", "١٩٩٩/", "year"),
            *("1869", "2101", "0000", "9999"),
            "1999-01-01/",
            "/1999-01-01",
            "1999-01-01/1999-02-30",
            *(
                "0001-01-01/0001-06-30",
                "1869-12-31/1870-01-02",
                "2100-12-31/2101-01-01",
                "1000-01-01/9999-12-31",
            ),
            "1999-13-01/1999-12-31",
            "1999-06-30/1999-01-01",
            "1999-01-01/1999-06-30/1999-12-31",
            "1999-01-01 / 1999-06-30",
            "19990101/19990630",
            "1999-01-01/1999-06-30\n",
        ],
    )
    def test_anything_else_is_invalid(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"\A(window|year) .*expected .*\Z"):
            Window.parse(text)


class TestCell:
    @pytest.mark.parametrize("total_pages", [0, 1])
    def test_the_rest_of_one_page_or_none_is_empty(self, total_pages: int) -> None:
        assert Cell(18, "1999").rest(total_pages) == []

    @pytest.mark.parametrize("total_pages", [2, 3, MAX_PAGE])
    def test_the_rest_is_pages_from_2_on(self, total_pages: int) -> None:
        cell = Cell(18, "1999")
        assert cell.rest(total_pages) == [PageKey(18, "1999", page) for page in range(2, total_pages + 1)]

    @pytest.mark.parametrize("total_pages", [MAX_PAGE + 1, 60_000])
    def test_above_500_pages_the_rest_is_page_1_of_both_halves(self, total_pages: int) -> None:
        assert Cell(18, "1999").rest(total_pages) == [
            PageKey(18, "1999-01-01/1999-07-02", 1),
            PageKey(18, "1999-07-03/1999-12-31", 1),
        ]

    @pytest.mark.parametrize("total_pages", [MAX_PAGE + 1, 60_000])
    def test_the_rest_of_a_single_day_ends_at_page_500(self, total_pages: int) -> None:
        cell = Cell(18, "1999-01-01/1999-01-01")
        assert cell.rest(total_pages) == [cell.page(page) for page in range(2, MAX_PAGE + 1)]

    @given(CELLS)
    def test_halves_keep_the_genre_and_cover_the_window(self, cell: Cell) -> None:
        halves = cell.halves()
        assume(halves)
        assert {half.genre_id for half in halves} == {cell.genre_id}
        whole = Window.parse(cell.window)
        first, second = (Window.parse(half.window) for half in halves)
        assert (first.first, second.last) == (whole.first, whole.last)
        assert first.last + timedelta(days=1) == second.first


class TestPageKey:
    @given(CELLS, st.integers(1, MAX_PAGE))
    def test_an_id_can_be_parsed(self, cell: Cell, page: int) -> None:
        key = cell.page(page)
        assert parse_key(key.id) == key
        assert key.cell == cell

    def test_the_id_is_genre_window_page(self) -> None:
        assert PageKey(18, "1999", 3).id == "18:1999:3"
        assert PageKey(18, "1999-01-01/1999-06-30", 3).id == "18:1999-01-01/1999-06-30:3"

    @pytest.mark.parametrize(
        "text",
        [
            *("", "18", "18:1999", "18:1999:3:4", "::", "drama:1999:3", "18:1999:three", "18.0:1999:3"),
            *(
                "18:1999:0",
                "18:1999:-1",
                "18:1999: 3",
                "018:1999:3",
                "18:1999:03",
                "1_8:1999:3",
                "+18:1999:3",
            ),
            "18:1999-01-01/1999-12-31:1",  # 1999 is shorter, and each window has one id
            *("18:1999:501", "18:1999:1000000000000", f"{2**31}:1999:1", f"{10**30}:1999:1", "-1:1999:1"),
            *(f"18:1999:{'9' * 5_000}", f"{'9' * 5_000}:1999:1", "18:0001-01-01/0001-06-30:1"),
            *("18:1869:1", "18:99:1", "18:1999-02-30/1999-03-01:1", "18:1999:3\n", "١٨:1999:3"),
        ],
    )
    def test_invalid_ids(self, text: str) -> None:
        with pytest.raises(UsageError, match="expected"):
            parse_key(text)

    @given(st.text())
    def test_any_text_is_an_id_or_invalid(self, text: str) -> None:
        try:
            key = parse_key(text)
        except UsageError:
            return
        assert key.id == text


class TestParseKey:
    @pytest.mark.parametrize("id_", [1, 603, LAST_MOVIE])
    def test_movie_ids(self, id_: int) -> None:
        assert parse_key(f"movie:{id_}") == MovieKey(id_)

    @pytest.mark.parametrize(
        "key",
        [
            PageKey(18, "1999", 3),
            TotalsKey(18, "1999-01-01/1999-06-30"),
            PopularKey(500),
            ChangesKey("2026-02-28", 7),
        ],
    )
    def test_an_id_is_parsed_to_its_key_and_similar_keys_are_of_its_kind(self, key: Key) -> None:
        assert parse_key(key.id) == key
        others = key.similar()
        assert (len(others), key in others, {type(other) for other in others}) == (3, False, {type(key)})

    @pytest.mark.parametrize(
        "text",
        [
            *("movie:", "movie:0", "movie:-1", "movie:07", "movie:x", "movie:603 ", "movie:+603"),
            *(f"movie:{LAST_MOVIE + 1}", f"movie:{10**30}", f"movie:{'9' * 5_000}"),
            *("popular:", "popular:0", "popular:501", "popular:1:1", "popular:01", "popular:٣"),
            *("changes:2026-01-01", "changes:2026-13-01:1", "changes:20260101:1", "changes:2026-01-01:501"),
            *("totals:18:1999:1", "totals:18", "totals:x:1999", "totals:18:99"),
        ],
    )
    def test_invalid_ids(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"\A[^\n]{,200}\Z"):
            parse_key(text)


def test_a_moment_before_1970_asks_for_whatever_is_stored() -> None:
    """A message with a negative time would be rejected, and the page never fetched."""
    key = PageKey(18, "1999", 1)
    assert Fetch(key, datetime(1926, 1, 1, tzinfo=UTC)).args == (18, "1999", 1, 0)
    assert Fetch(key, datetime(1970, 1, 2, tzinfo=UTC)).args == (18, "1999", 1, 86_400_000)
