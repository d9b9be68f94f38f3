"""A movie that the search found, as a row of a table; a movie in full."""

from typing import Any

import pytest

from producer.cli.movie import _parse_id, _row
from producer.cli.movie_facts import print_movie
from worker.errors import UsageError
from worker.keys import LAST_MOVIE


@pytest.mark.parametrize(
    ("item", "row"),
    [
        (
            {"title": "The Matrix", "release_date": "1999-03-31", "vote_average": 8.2, "vote_count": 9000}
            | {"genre_ids": [28, 5]},
            ("603", "The Matrix", "1999", "8.2 (9,000)", "Action, genre 5"),
        ),
        ({}, ("603", "None", "", "", "")),
        (
            {"title": "a\ud83db\x1b[2J", "release_date": None, "vote_average": None, "vote_count": "many"}
            | {"genre_ids": [[28], "x", 28]},
            ("603", "a b [2J", "", "", "Action"),
        ),
        ({"vote_average": 10**400, "vote_count": 10**400}, ("603", "None", "", "", "")),
        ({"genre_ids": None, "vote_average": "high"}, ("603", "None", "", "", "")),
    ],
)
def test_any_movie_is_one_printable_row(item: dict[str, Any], row: tuple[str, ...]) -> None:
    assert _row({"id": 603, **item}, {28: "Action"}) == row


@pytest.mark.parametrize(
    ("movie", "lines"),
    [
        (
            {
                "id": 603,
                "title": "The [b]Matrix[/b]",
                "original_title": "The [b]Matrix[/b]",
                "tagline": "",
                "runtime": 136,
                "genres": [{"id": 28, "name": "Action"}, {"id": 878, "name": "Science Fiction"}],
                "budget": 63_000_000,
                "revenue": 0,
                "vote_average": 8,
                "vote_count": 9000,
                "spoken_languages": [{"english_name": "", "name": "English"}],
                "belongs_to_collection": None,
                "overview": "Set in [red]the[/red] 22nd century.",
            },
            [
                "id 603",
                "title The [b]Matrix[/b]",
                "runtime 2h 16m",
                "genres Action, Science Fiction",
                "budget $63,000,000",
                "votes 8.0 (9,000)",
                "spoken English",
                "Set in [red]the[/red] 22nd century.",
            ],
        ),
        (
            {"id": 1, "runtime": "long", "genres": {"name": "x"}, "budget": float("nan"), "revenue": 10**400}
            | {"spoken_languages": [None, "x", {"name": None}], "title": "a\x1b[2Jb", "overview": None},
            ["id 1", "title a [2Jb", "no overview"],
        ),
    ],
)
def test_any_movie_is_printed_in_full(
    capsys: pytest.CaptureFixture[str], movie: dict[str, Any], lines: list[str]
) -> None:
    print_movie(movie, "from a test")
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert list(filter(None, printed)) == [*lines, "from a test"]


def test_an_id_is_bounded() -> None:
    assert _parse_id(str(LAST_MOVIE)) == LAST_MOVIE
    for words in ("0", str(LAST_MOVIE + 1), "9" * 10_000):
        with pytest.raises(UsageError, match=r"\AID \d{1,40}: expected 1\.\.\d+; for a title, add --title\Z"):
            _parse_id(words)
