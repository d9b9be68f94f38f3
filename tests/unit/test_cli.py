"""The command line as a whole: its help, its errors, its exit codes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from producer import queues
from producer.cli.main import main
from producer.cli.registry import COMMANDS, app
from worker.app import CELLS, MOVIES, REFRESH, configuration
from worker.errors import RedisUnavailable
from worker.settings import Settings, settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No setting of ours and no .env: nothing here may reach a server."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _no_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest's logging must survive the command line's."""
    monkeypatch.setattr("worker.monitoring.logs.configure", lambda *_: None)


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `reelhaul ARGS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["reelhaul", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


CRASH = """
import sys
from producer.cli import {module}, main

def fail(*_, **__):
    held = "s3cr3t-" + "of-nobody"
    raise ValueError("failed")

{module}.{function} = fail
sys.argv = ["reelhaul", *{argv}]
main.main()
"""


@pytest.mark.parametrize(
    ("module", "function", "argv"),
    [("failures", "storage", ["failures"]), ("retention", "fleet_now", ["expire", "--yes"])],
)
def test_crash_shows_a_traceback_without_variables(module: str, function: str, argv: list[str]) -> None:
    script = CRASH.format(module=module, function=function, argv=argv)
    crashed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50
    )
    assert crashed.returncode == 1
    assert "Traceback (most recent call last)" in crashed.stderr
    assert "ValueError: failed" in crashed.stderr
    assert "s3cr3t-of-nobody" not in crashed.stderr


def test_no_error_shows_a_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Redis before version 6 answers an unknown HELLO by quoting all that was sent, a password too."""
    monkeypatch.setenv("REDIS_URL", "redis://:canary-redis@127.0.0.1/0")

    def unavailable(**_: object) -> None:
        raise RedisUnavailable(
            "Redis: ResponseError: unknown command `HELLO`, with args: `AUTH`, `canary-redis`"
        )

    monkeypatch.setattr("producer.cli.limit.limiter", unavailable)
    code, _, err = run(monkeypatch, capsys, "limit")
    assert code == 2
    assert err.startswith(
        "reelhaul: Redis: ResponseError: unknown command `HELLO`, with args: `AUTH`, `[secret]`"
    )


def test_help_lists_every_command_in_its_group() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=200)
    assert shown.exit_code == 0
    panels = dict(re.findall(r"╭─ ([\w ]+) ─.*?╮\n(.*?)╰", shown.output, re.DOTALL))
    assert list(panels) == ["Options", "Fetch", "Look", "Steer", "Data", "Set up", "Run"]
    for name, place in COMMANDS.items():
        assert f" {name} " in panels[place.group]


def test_without_arguments_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(monkeypatch, capsys)
    assert (code, err) == (2, "")
    assert " backfill " in out


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "--version") == (0, f"reelhaul {version('reelhaul')}\n", "")


@pytest.mark.parametrize("words", [[], ["backfill"], ["limit"], ["limit", "pause"], ["failures", "purge"]])
def test_no_type_stands_beside_flags(words: list[str]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert shown.exit_code == 0
    assert "--help" in shown.output
    assert "bool" not in shown.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("reelhaul re", ["resume", "refresh"]),
        ("reelhaul limit p", ["pause"]),
        ("reelhaul backfill --ma", ["--max-age"]),
        ("reelhaul failures purge --", ["--class", "--key", "--yes", "--json", "--help"]),
    ],
)
def test_the_shell_completes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, words: list[str]
) -> None:
    monkeypatch.setenv("_REELHAUL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    code, out, _ = run(monkeypatch, capsys)
    assert (code, out.split()) == (0, words)


def test_the_completion_of_bash_is_one_that_bash_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: "bash")
    code, script, _ = run(monkeypatch, capsys, "--show-completion")
    assert code == 0
    read = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p reelhaul"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert "_reelhaul_completion" in read.stdout


def test_no_for_an_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asks(**_: object) -> None:
        raise typer.Abort

    monkeypatch.setattr("producer.cli.limit.limiter", asks)
    assert run(monkeypatch, capsys, "limit") == (1, "", "reelhaul: aborted\n")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_help(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert f" {name} " in shown.output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_summary_is_the_first_line_of_the_commands_own_help(name: str) -> None:
    module, _, function = COMMANDS[name].name.partition(":")
    found = getattr(import_module(module), function)
    own = found.info.help if isinstance(found, typer.Typer) else found.__doc__
    assert str(own).partition("\n")[0] == COMMANDS[name].summary


def imported(script: str) -> set[str]:
    """The modules that a new interpreter has imported after running the script."""
    script += "\nimport sys; print('\\n', *sys.modules, file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50
    )
    return set(ran.stderr.split())


def test_help_imports_no_command_and_little_else() -> None:
    """`reelhaul --help` in a sixth of a second: 0.6 s more with every command's imports."""
    called = "import sys; sys.argv[1:] = ['--help']\nfrom producer.cli.main import main\n"
    modules = imported(f"{called}try: main()\nexcept SystemExit: pass")
    assert not {place.name.partition(":")[0] for place in COMMANDS.values()} & modules - {
        "producer.cli.health"
    }
    heavy = {
        "celery",
        "kombu",
        "redis",
        "pymongo",
        "requests",
        "pydantic",
        "structlog",
        "rich.live",
        "rich.progress",
    }
    assert not heavy & modules
    assert "rich.panel" in modules  # the names are what they were
    assert len(modules) < 400, len(modules)


def test_no_help_of_a_command_imports_celery() -> None:
    """Nor kombu; `status --help` would take a third longer. Each command imports its modules for its help."""
    names = [place.name.partition(":")[0] for place in COMMANDS.values()]
    modules = imported("".join(f"import {name}\n" for name in names))
    assert not {"celery", "kombu"} & modules
    assert {*names, "pymongo"} <= modules


def test_the_producers_names_of_queues_are_the_workers() -> None:
    assert (queues.CELLS, queues.MOVIES, queues.REFRESH) == (CELLS, MOVIES, REFRESH)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (
            ["bakfill"],
            "no such command 'bakfill': did you mean 'backfill', 'backfills'? See `reelhaul --help`",
        ),
        (["xyzzy"], "no such command 'xyzzy'; see `reelhaul --help`"),
        (["limit", "pauze"], "no such command 'pauze': did you mean 'pause'? See `reelhaul limit --help`"),
        (
            ["backfill", "--detatch"],
            "no such option --detatch: did you mean --detach? See `reelhaul backfill --help`",
        ),
        (
            ["backfill", "surplus"],
            "got unexpected extra argument(s) (surplus); see `reelhaul backfill --help`",
        ),
        (["status", "--zzz"], "no such option --zzz; see `reelhaul status --help`"),
        (["movie"], "missing argument 'ID|TITLE'; see `reelhaul movie --help`"),
        (
            ["popular", "--pages", "0"],
            "invalid value for '--pages': must be greater than or equal to 1; see `reelhaul popular --help`",
        ),
        (["popular", "--pages"], "option '--pages' requires an argument"),
    ],
)
def test_unusable_words_are_one_line_on_stderr_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], named: str
) -> None:
    code, out, err = run(monkeypatch, capsys, *args)
    assert (code, out) == (2, "")
    assert err == f"reelhaul: {named}\n"


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
        (["refresh", "--max-age", ""], "--max-age '': expected a length of time"),
        (["refresh", "--changes", "--since", ""], "--since '': expected a length of time"),
        (["refresh", "--changes", "--since", "2026-02-30"], "--since '2026-02-30': the calendar has no"),
        (["refresh", "--years", ""], "--years '': expected YEAR or FIRST..LAST"),
        (["limit", "pause", "--for", ""], "--for '': expected a length of time"),
        (["movie", " "], "TITLE is empty: expected words of a title"),
        (["movie", "caf\udce9"], "TITLE 'caf\\udce9': not UTF-8"),
        (["movie", "0"], "ID 0: expected 1..9223372036854775807; for a title, add --title"),
        (["backfill"], "no TMDB key: set TMDB_TOKEN"),
        (["refresh"], "no TMDB key: set TMDB_TOKEN"),
        (["details"], "no TMDB key: set TMDB_TOKEN"),
        (["movie", "the"], "no TMDB key: set TMDB_TOKEN"),
        (["popular"], "no TMDB key: set TMDB_TOKEN"),
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


def test_invalid_setting_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REELHAUL_RATE", "-1")
    code, out, err = run(monkeypatch, capsys, "status")
    assert (code, out) == (2, "")
    assert err.startswith("reelhaul: REELHAUL_RATE: ")
    assert err.count("\n") == 1


def test_invalid_setting_is_the_same_line_in_celerys_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "nowhere")
    with pytest.raises(click.UsageError, match=r"\AREDIS_URL: expected an address that begins with redis://"):
        configuration()


def test_unexpected_errors_pass_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug keeps its traceback."""

    def broken(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("producer.cli.registry.run", broken)
    monkeypatch.setattr(sys, "argv", ["reelhaul", "status"])
    with pytest.raises(ZeroDivisionError):
        main()
