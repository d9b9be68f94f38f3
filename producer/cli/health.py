"""`reelhaul health`: for containers. Asks nobody but the files that this host's processes write.

Light: what is imported here is imported every few seconds. So typer is not, and makes an argument of the
parameter all the same.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from worker.errors import UsageError
from worker.monitoring.heartbeat import SILENT_S, living

#: A task ends within 56 s (worker.retry.TASK_S), and the solo pool's loop stands still for as long.
STUCK_S = 120.0
RUN_FOLDER = "REELHAUL_RUN_FOLDER"


def health(role: str) -> None:
    """Exit 0 when every ROLE (worker or beat) on this host is alive and moves on, else 1 with the reason."""
    if role not in CHECKS:
        raise UsageError(f"health {role!r}: expected worker or beat")
    found = list(living(role, _run_folder()))
    troubles = [f"no {role} runs on this host"] if not found else []
    for told in found:
        trouble = CHECKS[role](told, time.monotonic())
        if trouble:
            troubles.append(f"{role} with pid {told['pid']}: {trouble}")
    if troubles:
        sys.stderr.write("\n".join(troubles) + "\n")
        sys.exit(1)


def worker_trouble(told: dict[str, Any], now: float) -> str:
    """What is wrong with a worker that wrote this; "" when nothing is."""
    if now - told["at"] > SILENT_S:
        return f"silent for {now - told['at']:.0f} s"
    if told["oldest_s"] > STUCK_S:
        return f"works on one page for {told['oldest_s']:.0f} s"
    if now - told["heard_at"] > STUCK_S:
        return f"has heard nothing from Redis for {now - told['heard_at']:.0f} s"
    return ""


def beat_trouble(told: dict[str, Any], now: float) -> str:
    """The same of beat."""
    silent_s = now - told["at"]
    return f"has sent nothing for {silent_s:.0f} s" if silent_s > 2 * told["tick_s"] + SILENT_S else ""


CHECKS = {"worker": worker_trouble, "beat": beat_trouble}


def _run_folder() -> Path | None:
    """As worker.settings finds it, which takes longer to import than the rest of this command."""
    named = os.environ.get(RUN_FOLDER)
    if not named and Path(".env").is_file():
        from dotenv import dotenv_values  # noqa: PLC0415 -- seldom needed; it is what the settings read with

        try:
            named = dotenv_values(".env").get(RUN_FOLDER)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UsageError(f".env: cannot be read: {reason}") from None
    return Path(named) if named else None
