"""Lengths of time that people write."""

from datetime import timedelta

import pytest

from worker.durations import parse_duration
from worker.errors import UsageError


class TestParseDuration:
    @pytest.mark.parametrize(
        ("text", "length"),
        [
            ("90s", timedelta(seconds=90)),
            ("15m", timedelta(minutes=15)),
            ("6h", timedelta(hours=6)),
            ("30d", timedelta(days=30)),
            ("2w", timedelta(weeks=2)),
            ("1.5 H", timedelta(minutes=90)),
            (" 1d ", timedelta(days=1)),
            ("0s", timedelta(0)),
            ("999999d", timedelta(days=36_500)),  # a moment that far back must exist
        ],
    )
    def test_each_unit(self, text: str, length: timedelta) -> None:
        assert parse_duration(text, "--max-age") == length

    @pytest.mark.parametrize(
        "text", ["", "30", "d", "-1d", "1y", "1d2h", "1,5h", "thirty days", "1e3s", "inf d", "9" * 400 + "w"]
    )
    def test_the_error_names_the_option(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"\A--max-age '.*': expected a length of time such as .*\Z"):
            parse_duration(text, "--max-age")
