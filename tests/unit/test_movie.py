"""A movie that the search found, as a row of a table."""

from typing import Any

import pytest

from producer.cli.movie import _row


@pytest.mark.parametrize(
    ("item", "row"),
    [
        (
            {"title": "The Matrix", "release_date": "1999-03-31", "vote_average": 8.2, "vote_count": 9000}
            | {"genre_ids": [28, 5]},
            ("603", "The Matrix", "1999", "8.2 (9,000)", "Action, 5"),
        ),
        ({}, ("603", "None", "", "", "")),
        (
            {"title": "a\ud83db\x1b[2J", "release_date": None, "vote_average": None, "vote_count": "many"}
            | {"genre_ids": [[28], "x", 28]},
            ("603", "a b [2J", "", "", "Action"),
        ),
        ({"genre_ids": None, "vote_average": "high"}, ("603", "None", "", "", "")),
    ],
)
def test_any_movie_is_one_printable_row(item: dict[str, Any], row: tuple[str, ...]) -> None:
    assert _row({"id": 603, **item}, {28: "Action"}) == row
