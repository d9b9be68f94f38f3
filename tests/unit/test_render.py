"""Progress bars and colours go to a terminal only, and nothing is printed with --quiet."""

import os
import pty
import subprocess
import sys

import pytest

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
