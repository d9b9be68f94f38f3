"""The schedule file: what it may say, and where it says that something is wrong."""

from datetime import timedelta

import pytest

from producer.schedule.config import DEFAULT, ScheduleEntry, parse_schedule
from worker.errors import UsageError


def test_the_default_schedule_is_a_schedule_file() -> None:
    assert parse_schedule(DEFAULT, "here") == {
        "changes": ScheduleEntry("changes", "changes", timedelta(hours=1)),
        "recent": ScheduleEntry("recent", "refresh", timedelta(days=1), (), timedelta(days=1)),
        "oldest": ScheduleEntry("oldest", "oldest", timedelta(days=7)),
    }


def test_a_refresh_may_name_its_years_and_is_as_old_as_it_is_often() -> None:
    text = '[nineties]\ndo = "refresh"\nevery = "30d"\nyears = "1990..1992"\n'
    [duty] = parse_schedule(text, "here").values()
    assert (duty.years, duty.max_age) == ((1990, 1991, 1992), timedelta(days=30))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[a]\ndo = changes\n", "line 2", "not TOML"),
        ('[a]\nevery = "1h"\n', "line 1", "do is missing: expected one of changes, refresh, oldest, sweep"),
        ('[a]\ndo = "nothing"\nevery = "1h"\n', "line 2", "do = 'nothing': expected one of"),
        ('[b]\ndo = "sweep"\nevery="1m"\n[a]\ndo = "changes"\n', "line 4", "every is missing"),
        ('[a]\ndo = "changes"\nevery = 3600\n', "line 3", "every = 3600: expected every"),
        ('[a]\ndo = "changes"\n\nevery = "often"\n', "line 4", "expected a length of time such as 90s"),
        ('[a]\ndo = "changes"\nevery = "0s"\n', "line 3", "expected a second or more"),
        ('[a]\ndo = "changes"\nevery = "1h"\nyears = "recent"\n', "line 4", "years: unknown to changes"),
        ('[a]\ndo = "refresh"\nevery = "1h"\nyears = "now"\n', "line 4", "expected YEAR or FIRST..LAST"),
        ('[a]\ndo = "refresh"\nevery = "1h"\nmax_age = true\n', "line 4", "max_age = True: expected"),
        ("\nevery = 3\n", "line 2", "every: expected a table"),
        ('a = {do = "changes", every = "x"}\n', "line 1", "expected a length of time"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: str, problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_schedule(text, "schedule.toml")
    assert str(refused.value).startswith("schedule.toml")
    assert line in str(refused.value)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)
