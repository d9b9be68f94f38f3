"""`reelhaul health`: for containers. Reads only the heartbeat files of this host's processes.

It runs every few seconds, so it imports little: no typer, which only reads its signature.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from worker.errors import UsageError
from worker.monitoring.heartbeat import SILENT_S, heartbeats_of

#: A task ends within 56 s (worker.retry.TASK_S), and blocks the solo pool's event loop for as long.
STUCK_S = 120.0
RUN_FOLDER = "REELHAUL_RUN_FOLDER"


def health(role: str) -> None:
    """Exit 0 when every ROLE (worker or beat) on this host is alive and not stuck, else 1 with the reason."""
    if role not in CHECKS:
        raise UsageError(f"health {role!r}: expected worker or beat")
    heartbeats = list(heartbeats_of(role, _run_folder()))
    problems = [] if heartbeats else [f"no {role} runs on this host"]
    problems += [
        f"{role} with pid {heartbeat['pid']}: {problem}"
        for heartbeat in heartbeats
        if (problem := CHECKS[role](heartbeat, time.monotonic()))
    ]
    if problems:
        sys.stderr.write("\n".join(problems) + "\n")
        sys.exit(1)


def worker_problem(heartbeat: dict[str, Any], now: float) -> str:
    """What is wrong with the worker that wrote the heartbeat; "" for nothing."""
    if now - heartbeat["at"] > SILENT_S:
        return f"no heartbeat for {now - heartbeat['at']:.0f} s"
    if heartbeat["oldest_s"] > STUCK_S:
        return f"one task has run for {heartbeat['oldest_s']:.0f} s"
    if now - heartbeat["contact_at"] > STUCK_S:
        return f"no contact with Redis for {now - heartbeat['contact_at']:.0f} s"
    return ""


def beat_problem(heartbeat: dict[str, Any], now: float) -> str:
    """What is wrong with the beat that wrote the heartbeat; "" for nothing."""
    silent_s = now - heartbeat["at"]
    return f"no message sent for {silent_s:.0f} s" if silent_s > 2 * heartbeat["tick_s"] + SILENT_S else ""


CHECKS = {"worker": worker_problem, "beat": beat_problem}


def _run_folder() -> Path | None:
    """The setting, without worker.settings, whose import takes longer than the rest of this command."""
    named = os.environ.get(RUN_FOLDER)
    if not named and Path(".env").is_file():
        from dotenv import dotenv_values  # noqa: PLC0415 -- seldom needed; worker.settings reads .env with it too

        try:
            named = dotenv_values(".env").get(RUN_FOLDER)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UsageError(f".env: cannot be read: {reason}") from None
    return Path(named) if named else None
