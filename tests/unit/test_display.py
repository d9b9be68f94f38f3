"""Progress is for those who look: a bar on a terminal, nothing in a pipe, nothing when asked for quiet."""

import os
import pty
import subprocess
import sys

import pytest

SCRIPT = """
from producer.cli.render import advancing, console
with advancing("movies", 3, quiet={quiet}) as step:
    for _ in range(3):
        step()
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
            pass  # the terminal has no other end any more
        return written.decode()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def test_a_terminal_sees_a_bar_and_colours() -> None:
    shown = on_a_terminal(quiet=False)
    assert "movies" in shown
    assert "3/3" in shown
    assert "\x1b[31mdone" in shown


def test_no_color_is_honoured() -> None:
    shown = on_a_terminal(quiet=False, NO_COLOR="1")
    assert "3/3" in shown
    assert "\x1b[31m" not in shown


def test_quiet_is_quiet() -> None:
    assert on_a_terminal(quiet=True) == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_pipe_gets_the_result_alone(quiet: bool) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(quiet=quiet)],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert run.stdout == ("" if quiet else "done\n")
