"""What commands print: bars and colours on a terminal only, nothing with --quiet; the limiter in words."""

import os
import pty
import subprocess
import sys

import pytest

from producer.cli.render import counted, limiter_line, limiter_status
from worker.limiter.rate import Rate
from worker.limiter.state import LimiterState

SCRIPT = """
from producer.cli.render import console, progress_bar
with progress_bar("movies", 3, quiet={quiet}) as advance:
    for _ in range(3):
        advance()
console(quiet={quiet}).print("[red]done[/]")
"""


def on_a_terminal(*, quiet: bool, **environment: str) -> str:
    """What the script writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(quiet=quiet)],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment},
            stdout=theirs,
            check=True,
            timeout=50,
        )
        os.close(theirs)
        theirs = -1
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        except OSError:
            pass  # the other end is closed
        return written.decode()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def test_terminal_shows_bar_and_colours() -> None:
    shown = on_a_terminal(quiet=False)
    assert "movies" in shown
    assert "3/3" in shown
    assert "\x1b[31mdone" in shown


def test_no_color_is_honoured() -> None:
    shown = on_a_terminal(quiet=False, NO_COLOR="1")
    assert "3/3" in shown
    assert "\x1b[31m" not in shown


def test_quiet_prints_nothing() -> None:
    assert on_a_terminal(quiet=True) == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_pipe_gets_only_the_result(quiet: bool) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(quiet=quiet)],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert run.stdout == ("" if quiet else "done\n")


LONG = """
from producer.cli.render import console, plain_table
line = " ".join(["646 messages sent;"] * 30)
console().print(line)
table = plain_table("name", "outcome")
table.add_row("entry", line)
console().print(table)
"""


def test_no_line_is_wrapped_and_no_table_cut_in_a_pipe() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LONG],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    line = " ".join(["646 messages sent;"] * 30)
    assert [printed.strip() for printed in run.stdout.splitlines()] == [
        line,
        "name   outcome",
        f"entry  {line}",
    ]


@pytest.mark.parametrize(
    ("reason", "closed_s", "status"),
    [
        ("", None, "open"),
        ("paused", None, "closed: paused"),
        ("paused", 250.0, "closed: paused for 4m 10s"),
        ("outage", 12.0, "closed: outage for 12s"),
    ],
)
def test_limiter_status(reason: str, closed_s: float | None, status: str) -> None:
    state = LimiterState(Rate(40, 1), 0.5, 3, 0, reason, False, closed_s, 100, 2, {1: 10, 2: 20})
    assert limiter_status(state) == status
    line = "6.0 of 20 requests/s, 2 refused"
    assert limiter_line(state) == (f"{line}; limiter {status}" if reason else line)


def test_counted_has_a_singular() -> None:
    assert [counted(number, "page") for number in (0, 1, 2_000)] == ["0 pages", "1 page", "2,000 pages"]
