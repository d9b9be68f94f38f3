"""The command line as such: what it offers, and how it refuses."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from typer.testing import CliRunner

from producer.cli.main import main
from producer.cli.registry import COMMANDS, app
from worker.errors import RedisUnavailable
from worker.settings import Settings, settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of ours and no .env: nothing here may reach a server."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's logging is a process' own: pytest's must stay."""
    monkeypatch.setattr("worker.monitoring.logs.configure", lambda _: None)


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `reelhaul ARGS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["reelhaul", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


CRASH = """
import sys
from producer import {module}, cli

def fail(*_, **__):
    held = "s3cr3t-" + "of-nobody"
    raise ValueError("failed")

{module}.{function} = fail
sys.argv = ["reelhaul", *{argv}]
cli.main()
"""


@pytest.mark.parametrize(
    ("module", "function", "argv"),
    [("failures", "store", ["failures"]), ("upkeep", "fleet_now", ["expire", "--yes"])],
)
def test_a_crash_shows_a_traceback_and_no_variable(module: str, function: str, argv: list[str]) -> None:
    script = CRASH.format(module=module, function=function, argv=argv)
    crashed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50
    )
    assert crashed.returncode == 1
    assert "Traceback (most recent call last)" in crashed.stderr
    assert "ValueError: failed" in crashed.stderr
    assert "s3cr3t-of-nobody" not in crashed.stderr


def test_no_refusal_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redis before version 6 answers an unknown HELLO with all that was sent, a password too."""
    monkeypatch.setenv("REDIS_URL", "redis://:canary-redis@127.0.0.1/0")

    def away(**_: object) -> None:
        raise RedisUnavailable(
            "Redis: ResponseError: unknown command `HELLO`, with args: `AUTH`, `canary-redis`"
        )

    monkeypatch.setattr("producer.cli.limit.limiter", away)
    code, _, said = run(monkeypatch, capsys, "limit")
    assert code == 2
    assert said.startswith(
        "reelhaul: Redis: ResponseError: unknown command `HELLO`, with args: `AUTH`, `[secret]`"
    )


def test_help_lists_every_command_with_a_sentence() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=200)
    assert shown.exit_code == 0
    for name in COMMANDS:
        assert f" {name} " in shown.output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"reelhaul {name}" in shown.output or f" {name} " in shown.output


@pytest.mark.parametrize("place", list(COMMANDS.values()))
def test_every_command_has_a_docstring(place: str) -> None:
    module, _, function = place.partition(":")
    assert getattr(import_module(module), function).__doc__


@pytest.mark.parametrize(
    "args", [["bakfill"], ["backfill", "--genre"], ["backfill", "surplus"], ["status", "--years", "1999"]]
)
def test_what_it_does_not_know_is_exit_code_2_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    code, out, err = run(monkeypatch, capsys, *args)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert args[-1] in err or "1999" in err or "--years" in err


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["backfill", "--years", "2025..1990"],
            "--years '2025..1990': 2025 comes after 1990; write 1990..2025",
        ),
        (["backfill", "--years", "1869"], "--years '1869': expected years within 1870..2100"),
        (
            ["backfill", "--years", "99"],
            "--years '99': expected YEAR or FIRST..LAST, for instance 1990..2025",
        ),
        (["refresh", "--max-age", "soon"], "--max-age 'soon': expected a length of time"),
        (["backfill", "--max-age", "soon"], "--max-age 'soon': expected a length of time"),
        (["backfill"], "no TMDB key: set TMDB_TOKEN"),
        (["refresh"], "no TMDB key: set TMDB_TOKEN"),
        (["standalone"], "no TMDB key: set TMDB_TOKEN"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], line: str
) -> None:
    code, out, err = run(monkeypatch, capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith(f"reelhaul: {line}")
    assert err.count("\n") == 1


def test_a_bad_variable_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REELHAUL_RATE", "-1")
    code, out, err = run(monkeypatch, capsys, "status")
    assert (code, out) == (2, "")
    assert err.startswith("reelhaul: REELHAUL_RATE: ")
    assert err.count("\n") == 1


def test_celerys_own_command_line_gets_the_same_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.app import configuration  # noqa: PLC0415 -- it names what the test is about

    monkeypatch.setenv("REDIS_URL", "nowhere")
    with pytest.raises(click.UsageError, match=r"\AREDIS_URL: expected an address that begins with redis://"):
        configuration()


def test_main_leaves_other_errors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug keeps its traceback; only what was raised on purpose is a line."""

    def broken(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("producer.menu.app", broken)
    with pytest.raises(ZeroDivisionError):
        main()
