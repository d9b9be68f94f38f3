"""Logs: one event per line, in one form for our lines and Celery's, without secrets."""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

SCRIPT = """
import logging, structlog
from worker.monitoring import logs
from worker.settings import redacted
logs.configure("{level}", redacted)
{body}
"""


def lines(body: str, level: str = "INFO") -> list[dict[str, Any]]:
    """The lines that a process which runs `body` writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(level=level, body=body)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_our_lines_and_a_librarys_have_the_same_form() -> None:
    ours, theirs = lines(
        'structlog.get_logger("worker.tasks").info("saved", page="18:1999:3", movies=20)\n'
        'logging.getLogger("celery.worker").warning("lost %s", "broker")'
    )
    assert ours.pop("timestamp") <= theirs.pop("timestamp")
    assert ours == {
        "event": "saved",
        "page": "18:1999:3",
        "movies": 20,
        "level": "info",
        "logger": "worker.tasks",
    }
    assert theirs == {"event": "lost broker", "level": "warning", "logger": "celery.worker"}


def test_exception_and_multi_line_text_are_one_line_each() -> None:
    failed, long = lines(
        'log = structlog.get_logger("a")\n'
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')\n"
        'log.error("first\\nsecond \\u2028 \\ud800 end")'
    )
    assert "ZeroDivisionError" in failed["exception"]
    assert long["event"] == "first\nsecond \u2028 \ud800 end"


SECRETS = {
    "TMDB_TOKEN": "canary-token-of-nobody",
    "TMDB_API_KEY": "canary-key-of-nobody",
    "REDIS_URL": "redis://:canary%2Fredis@127.0.0.1/0",
    "MONGO_URL": "mongodb://user:canary%2Fmongo@127.0.0.1/reelhaul",
}


def test_no_line_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    secrets = [
        "canary-token-of-nobody",
        "canary-key-of-nobody",
        "canary/redis",
        "canary%2Fmongo",
        "canary/mongo",
    ]
    logged = lines(
        f"for secret in {secrets}:\n"
        '    logging.getLogger("redis").error("unknown command HELLO, with args %s", secret)\n'
        '    structlog.get_logger("a").error("failed", reason=secret)\n'
        "    try:\n        raise ValueError(secret)\n"
        '    except ValueError:\n        structlog.get_logger("a").exception("failed")'
    )
    assert len(logged) == 3 * len(secrets)
    assert "[secret]" in repr(logged[0])
    assert "canary" not in repr(logged)


TRACEBACK = """
import structlog
from worker.monitoring import logs
logs.configure("INFO", str)
def fail():
    variable = "s3cr3t-" + "of-nobody"
    raise ValueError("failed")
try:
    fail()
except ValueError:
    structlog.get_logger("a").exception("went wrong")
"""


def test_traceback_on_a_terminal_shows_no_variables() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        done = subprocess.run([sys.executable, "-c", TRACEBACK], stderr=theirs, timeout=30, check=True)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # raised at the end of a terminal
            while chunk := terminal.read(65_536):
                shown += chunk
    assert done.returncode == 0
    assert b"went wrong" in shown
    assert b"s3cr3t-of-nobody" not in shown
    assert b"ValueError: failed" in shown


def test_bound_variables_are_on_every_line_in_the_block() -> None:
    inside, theirs, outside = lines(
        'log = structlog.get_logger("a")\n'
        'with structlog.contextvars.bound_contextvars(page="18:1999:3"):\n'
        '    log.info("in")\n'
        '    logging.getLogger("b").info("in")\n'
        'log.info("out")'
    )
    assert inside["page"] == theirs["page"] == "18:1999:3"
    assert "page" not in outside


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("ERROR", ["error"]),
    ],
)
def test_levels(level: str, logged: list[str]) -> None:
    body = (
        'log = structlog.get_logger("a")\n'
        'for name in ("debug", "info", "warning", "error"):\n'
        '    getattr(log, name)("x")'
    )
    assert [line["level"] for line in lines(body, level)] == logged


def test_chatty_libraries_log_only_warnings() -> None:
    chatty = ["celery.app.trace", "celery.worker.strategy", "urllib3.connectionpool", "pymongo.command"]
    body = (
        f"for name in {chatty}:\n"
        '    logging.getLogger(name).info("chatter")\n'
        "    logging.getLogger(name).warning(name)"
    )
    assert [line["event"] for line in lines(body)] == chatty
    assert lines(body, "ERROR") == []


def test_configuring_twice_logs_each_line_once() -> None:
    assert len(lines('logs.configure("INFO", redacted)\nstructlog.get_logger("a").info("once")')) == 1
