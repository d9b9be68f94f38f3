"""Options that several commands share: what their defaults are, and what they understand."""

from datetime import UTC, datetime, timedelta

import pytest

from producer.cli import options
from worker.errors import UsageError


@pytest.mark.parametrize("year", [2026, 2027])
def test_years_are_by_default_those_up_to_this_year(monkeypatch: pytest.MonkeyPatch, year: int) -> None:
    monkeypatch.setattr(options, "fleet_now", lambda: datetime(year, 1, 1, tzinfo=UTC))
    assert options.chosen_years(None) == list(range(1990, year + 1))
    assert options.chosen_years("1999-2000") == [1999, 2000]


def test_since_is_a_day_or_a_length_of_time() -> None:
    assert options.parse_since("2026-01-01") == datetime(2026, 1, 1, tzinfo=UTC)
    assert options.parse_since("3d") == timedelta(days=3)


@pytest.mark.parametrize("text", ["2026-1-1", "2026-01-01T00:00", "20260101", "x"])
def test_since_says_what_it_expected(text: str) -> None:
    with pytest.raises(
        UsageError, match=f"--since '{text}': expected a length of time .* or a day: 2026-01-"
    ):
        options.parse_since(text)
