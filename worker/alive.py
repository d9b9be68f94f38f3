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
from tempfile import gettempdir
from typing import Any

#: Seconds until a process that writes every second counts as hanging.
SILENT_S = 20.0


def default_run_folder() -> Path:
    """Where a host's processes learn of each other when nobody says otherwise: one folder a user."""
    return Path(gettempdir()) / f"reelhaul-{os.getuid()}"


class Alive:
    """This process' file. Times in it are CLOCK_MONOTONIC's, the same for a whole host."""

    def __init__(self, role: str, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._removed = False
        # Containers share the folder and count their processes each from 1: the host's name tells them apart.
        self._path = folder / f"alive-{role}-{socket.gethostname()}-{os.getpid()}.json"

    def write(self, **figures: Any) -> None:
        """Say that it lives, with figures; whole or not at all. Nothing after `remove`."""
        if self._removed:
            return
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({"pid": os.getpid(), "at": time.monotonic(), **figures}))
        partial.replace(self._path)

    def remove(self) -> None:
        self._removed = True
        self._path.unlink(missing_ok=True)


def living(role: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What the processes of the role on this host last wrote; of those that ended, files are removed."""
    for path in folder.glob(f"alive-{role}-{socket.gethostname()}-*.json"):
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
