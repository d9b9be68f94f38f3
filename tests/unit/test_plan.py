"""What a person asks for becomes cells, or an error of one line that says what was expected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.plan import parse_genres, parse_years, plan_cells
from worker.errors import UsageError
from worker.keys import Cell
from worker.windows import FIRST_YEAR, LAST_YEAR

KNOWN = {18: "Drama", 35: "Comedy", 878: "Science Fiction"}


class TestYears:
    @pytest.mark.parametrize(
        ("text", "years"),
        [
            ("1999", [1999]),
            ("1999..1999", [1999]),
            ("1998..2001", [1998, 1999, 2000, 2001]),
            ("1998-2001", [1998, 1999, 2000, 2001]),
            ("2001,1998..1999", [1998, 1999, 2001]),
            (" 1999 , 1998..1999,1999 ", [1998, 1999]),
            ("1870..1871", [1870, 1871]),
            ("2100", [2100]),
        ],
    )
    def test_years_are_ascending_and_unique(self, text: str, years: list[int]) -> None:
        assert parse_years(text) == years

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("2025..1990", "2025 comes after 1990; write 1990..2025"),
            ("2025-1990", "2025 comes after 1990; write 1990..2025"),
            ("1869", "expected years within 1870..2100"),
            ("1869..1990", "expected years within 1870..2100"),
            ("1990..2101", "expected years within 1870..2100"),
            ("0000..9999", "expected years within 1870..2100"),
            *((text, "expected YEAR or FIRST..LAST, for instance 1990..2025") for text in (
                "", ",", "1999,", "99", "19990", "1990--2025", "1990-01-01", "1990...2025", "1990..",
                "..2025", "year", "1990 .. 2025", "-1990", "1990;2025",
            )),
        ],
    )  # fmt: skip
    def test_invalid_years_are_one_line_that_names_the_option(self, text: str, says: str) -> None:
        with pytest.raises(UsageError) as raised:
            parse_years(text)
        assert str(raised.value) == f"--years {text!r}: {says}"

    @given(st.integers(FIRST_YEAR, LAST_YEAR), st.integers(FIRST_YEAR, LAST_YEAR))
    def test_a_range_includes_both_ends(self, one: int, other: int) -> None:
        first, last = sorted((one, other))
        assert parse_years(f"{first}..{last}") == list(range(first, last + 1))

    @given(st.text(alphabet="0129.,- ", max_size=12))
    def test_any_text_gives_years_within_bounds_or_an_error(self, text: str) -> None:
        try:
            years = parse_years(text)
        except UsageError:
            return
        assert years == sorted(set(years))
        assert FIRST_YEAR <= years[0] <= years[-1] <= LAST_YEAR


class TestGenres:
    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("all", [18, 35, 878]),
            (" ALL ", [18, 35, 878]),
            ("Drama", [18]),
            ("drama", [18]),
            ("35", [35]),
            ("science fiction, 18", [878, 18]),
            ("Comedy,35,comedy", [35]),
        ],
    )
    def test_genres_are_found_by_name_or_id_in_the_order_given(self, text: str, ids: list[int]) -> None:
        assert parse_genres(text, KNOWN) == ids

    @pytest.mark.parametrize("text", ["Drams", "99", "", "Drama,", "-18", "18.0", "all,18", "18;35", "²"])
    def test_the_error_for_an_unknown_genre_lists_the_known_ones(self, text: str) -> None:
        with pytest.raises(UsageError) as raised:
            parse_genres(text, KNOWN)
        assert "\n" not in str(raised.value)
        assert str(raised.value).endswith(
            "expected all or some of: Drama (18), Comedy (35), Science Fiction (878)"
        )

    @given(st.text())
    def test_any_text_gives_known_genres_or_an_error(self, text: str) -> None:
        try:
            found = parse_genres(text, KNOWN)
        except UsageError:
            return
        assert found
        assert set(found) <= set(KNOWN)


class TestCells:
    def test_the_latest_year_comes_first_and_its_genres_in_order(self) -> None:
        assert plan_cells([35, 18], [1998, 1999]) == [
            Cell(35, "1999"),
            Cell(18, "1999"),
            Cell(35, "1998"),
            Cell(18, "1998"),
        ]

    @given(st.lists(st.integers(1, 999), unique=True), st.lists(st.integers(1870, 2100), unique=True))
    def test_each_genre_and_year_is_one_cell(self, genre_ids: list[int], years: list[int]) -> None:
        cells = plan_cells(iter(genre_ids), iter(years))
        assert len(cells) == len(set(cells)) == len(genre_ids) * len(years)
        assert set(cells) == {Cell(genre_id, str(year)) for genre_id in genre_ids for year in years}
