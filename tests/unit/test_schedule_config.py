"""What a schedule file may hold, and how errors in it are reported."""

from datetime import timedelta

import pytest

from producer.schedule.config import DEFAULT, ScheduleEntry, parse_schedule
from worker.errors import UsageError


def test_the_default_schedule_is_a_schedule_file() -> None:
    assert parse_schedule(DEFAULT, "here") == {
        "changes": ScheduleEntry("changes", "changes", timedelta(hours=1), timedelta(hours=1)),
        "recent": ScheduleEntry("recent", "refresh", timedelta(days=1), timedelta(days=1)),
        "totals": ScheduleEntry("totals", "totals", timedelta(days=7), timedelta(days=1)),
        "oldest": ScheduleEntry("oldest", "oldest", timedelta(days=7), timedelta(days=7)),
    }


def test_a_refresh_names_its_years_and_max_age_defaults_to_its_period() -> None:
    text = '[nineties]\ndo = "refresh"\nevery = "30d"\nyears = "1990..1992"\n'
    [entry] = parse_schedule(text, "here").values()
    assert (entry.years, entry.max_age) == ((1990, 1991, 1992), timedelta(days=30))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[a]\ndo = changes\n", "line 2", "not TOML"),
        (
            '[a]\nevery = "1h"\n',
            "line 1",
            "do is missing: expected one of changes, refresh, totals, oldest, ids, sweep",
        ),
        ('[a]\ndo = "nothing"\nevery = "1h"\n', "line 2", "do = 'nothing': expected one of"),
        ('[b]\ndo = "sweep"\nevery="1m"\n[a]\ndo = "changes"\n', "line 4", "every is missing"),
        ('[a]\ndo = "changes"\nevery = 3600\n', "line 3", "every = 3600: expected every"),
        ('[a]\ndo = "changes"\n\nevery = "often"\n', "line 4", "expected a length of time such as 90s"),
        ('[a]\ndo = "changes"\nevery = "0s"\n', "line 3", "expected a second or more"),
        ('[a]\ndo = "changes"\nevery = "1h"\nyears = "recent"\n', "line 4", "years: changes has no such key"),
        ('[a]\ndo = "refresh"\nevery = "1h"\nyears = "now"\n', "line 4", "expected YEAR or FIRST..LAST"),
        ('[a]\ndo = "refresh"\nevery = "1h"\nmax_age = true\n', "line 4", "max_age = True: expected"),
        ('[a]\ndo = "changes"\nevery = "1h"\nnew = "yes"\n', "line 4", "new = 'yes': expected true or false"),
        ("\nevery = 3\n", "line 2", "every: expected a table"),
        ('a = {do = "changes", every = "x"}\n', "line 1", "expected a length of time"),
    ],
)
def test_an_error_names_the_file_and_the_line(text: str, line: str, problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_schedule(text, "schedule.toml")
    message = str(raised.value)
    assert message.startswith("schedule.toml")
    assert line in message
    assert problem in message
    assert "\n" not in message
