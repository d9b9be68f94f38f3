"""Heartbeats: one small file per process in the run folder, read by `reelhaul health`.

Standard library only: `reelhaul health` runs every few seconds.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker.monitoring.files import replace_file
from worker.monitoring.run_folder import open_run_folder

#: Seconds without a write after which a process that writes every second counts as hanging.
SILENT_S = 20.0


class Heartbeat:
    """This process' heartbeat file. Times in it are CLOCK_MONOTONIC's, which a whole host shares."""

    def __init__(self, role: str, folder: Path | None) -> None:
        """`folder`: the run folder, None for the default one. UsageError when it cannot be used."""
        self._removed = False
        # Containers that share the folder have equal pids, but different host names.
        self._name = f"alive-{role}-{socket.gethostname()}-{os.getpid()}.json"
        self._folder = folder
        self._path = open_run_folder(folder) / self._name

    def write(self, **facts: Any) -> None:
        """Write the pid, the time and `facts`; do nothing after `remove`. Raises OSError and UsageError.

        The folder is made again if somebody has removed it.
        """
        if self._removed:
            return
        self._path = open_run_folder(self._folder) / self._name
        with replace_file(self._path, "w", permissions=0o600) as file:
            json.dump({"pid": os.getpid(), "at": time.monotonic(), **facts}, file)

    def remove(self) -> None:
        self._removed = True
        self._path.unlink(missing_ok=True)


def heartbeats_of(role: str, folder: Path | None) -> Iterator[dict[str, Any]]:
    """The heartbeats of this host's running processes of that role; those of ended processes are removed.

    UsageError when others may write to the folder.
    """
    for path in open_run_folder(folder).glob(f"alive-{role}-{socket.gethostname()}-*.json"):
        with suppress(FileNotFoundError):
            heartbeat = json.loads(path.read_text())
            try:
                os.kill(heartbeat["pid"], 0)
            except ProcessLookupError:
                path.unlink(missing_ok=True)
                continue
            except PermissionError:
                pass  # it runs under another user
            yield heartbeat
