"""Rates are exact fractions; anything else is invalid."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import UsageError
from worker.limiter.rate import Rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("35", Rate(35, 1)),
        ("0.5", Rate(1, 2)),
        ("20/s", Rate(20, 1)),
        ("40/10s", Rate(4, 1)),
        ("45/10s", Rate(9, 2)),
        ("1/hour", Rate(1, 3600)),
        ("1/h", Rate(1, 3600)),
        ("90/min", Rate(3, 2)),
        ("90 / 2 minute", Rate(3, 4)),
        ("1/day", Rate(1, 86400)),
        ("100000", Rate(100_000, 1)),
        ("0.1", Rate(1, 10)),
        (" 7/second ", Rate(7, 1)),
    ],
)
def test_valid_rates(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "fast",
            "-1",
            "0",
            "0/s",
            "0.0",
            "35 per second",
            "35/",
            "/s",
            "35/s/s",
            "1e3",
            "inf",
            "nan",
        ),
        *("35/0s", "1/2day", "100001", "35/fortnight", "35/10", ".5", "5.", "0.0000001", "35/S"),
    ],
)
def test_anything_else_is_a_usage_error_of_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        Rate.parse(text)
    assert str(error.value) == (
        f"rate {text!r}: expected requests per second (35, 0.5) or 20/s, 40/10s, 1/hour"
    )


@given(st.integers(1, 100_000), st.integers(1, 86_400))
def test_every_rate_is_kept_exactly(requests: int, seconds: int) -> None:
    rate = Rate.parse(f"{requests}/{seconds}s") if requests * 86_400 >= seconds else None
    assert rate is not None
    assert Fraction(rate.requests, rate.period_s) == Fraction(requests, seconds)
    assert rate.per_s == pytest.approx(requests / seconds)


@pytest.mark.parametrize(("text", "shown"), [("35", "35/s"), ("45/10s", "4.5/s"), ("1/hour", "1/3600s")])
def test_a_rate_is_shown_per_second_or_as_a_fraction(text: str, shown: str) -> None:
    assert str(Rate.parse(text)) == shown
    assert Rate.parse(shown) == Rate.parse(text)
