"""One small file a process in the run folder says that it lives and moves on. Read by `reelhaul health`.

Light: nothing here but the standard library, for it is asked every few seconds.
"""

from __future__ import annotations

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

#: Seconds until a process that writes every second counts as hanging.
SILENT_S = 20.0


class Heartbeat:
    """This process' file in the run folder (None: the default one).

    Times in it are CLOCK_MONOTONIC's, the same for a whole host.
    """

    def __init__(self, role: str, folder: Path | None) -> None:
        self._removed = False
        # Containers share the folder and count their processes each from 1: the host's name tells them apart.
        self._name = f"alive-{role}-{socket.gethostname()}-{os.getpid()}.json"
        self._folder = folder
        self._path = open_run_folder(folder) / self._name

    def write(self, **figures: Any) -> None:
        """Say that it lives, with figures; whole or not at all. Nothing after `remove`.

        OSError or UsageError when the folder cannot be used; what somebody removed is made again.
        """
        if self._removed:
            return
        self._path = open_run_folder(self._folder) / self._name
        with replace_file(self._path, "w", permissions=0o600) as file:
            json.dump({"pid": os.getpid(), "at": time.monotonic(), **figures}, file)

    def remove(self) -> None:
        self._removed = True
        self._path.unlink(missing_ok=True)


def living(role: str, folder: Path | None) -> Iterator[dict[str, Any]]:
    """What the processes of the role on this host last wrote; of those that ended, files are removed.

    UsageError when others may write to the folder.
    """
    for path in open_run_folder(folder).glob(f"alive-{role}-{socket.gethostname()}-*.json"):
        with suppress(FileNotFoundError):
            told = json.loads(path.read_text())
            try:
                os.kill(told["pid"], 0)
            except ProcessLookupError:
                path.unlink(missing_ok=True)
                continue
            except PermissionError:
                pass  # it lives, and is somebody else's
            yield told
