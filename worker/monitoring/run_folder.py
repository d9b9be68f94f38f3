"""The folder in which a host's processes find each other: locks, heartbeats, metrics, Flower's memory.

Whoever may write there can have code run (Flower unpickles its file) or files overwritten, so it has to be
out of everybody else's reach. Light: nothing here but the standard library, for `reelhaul health`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from tempfile import gettempdir

from worker.errors import UsageError

ADVICE = "remove it, or set REELHAUL_RUN_FOLDER to a folder of your own"


def default_run_folder() -> Path:
    """Where a host's processes meet when nobody says otherwise: one folder a user.

    Asked for anew each time: what a login session has goes with it, and whoever works on meets in /tmp then.
    """
    # A cron job and a system service do not have the variable, and must meet the others all the same.
    for runtime in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}"):
        if runtime and _is_own_folder(Path(runtime)):
            return Path(runtime) / "reelhaul"
    return Path(gettempdir()) / f"reelhaul-{os.geteuid()}"


def open_run_folder(folder: Path | None) -> Path:
    """The folder (None: the default), made if it is not there.

    UsageError when it cannot be used, or others may write to it.
    """
    path = folder or default_run_folder()
    try:
        # What is there already is judged below, a link that leads nowhere too.
        if not os.path.lexists(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"run folder {path}: cannot be made: {error.strerror}; {ADVICE}") from None
    fault = fault_of(path) or _use_fault(path)
    if fault:
        raise UsageError(f"run folder {path}: {fault}; {ADVICE}")
    return path


def fault_of(path: Path) -> str:
    """Why a folder or file may hold what somebody else put there; "" when it is this user's (or root's).

    The sticky bit excuses a parent only: it keeps others from replacing what is there, not from adding to it.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {found.st_uid}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (mode {stat.S_IMODE(found.st_mode):o}; chmod 700 mends that)"
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"others may replace it, for they may write to {parent}"
    return ""


def _use_fault(path: Path) -> str:
    if not path.is_dir():
        return "is no folder"
    return "" if os.access(path, os.W_OK | os.X_OK) else "cannot be written to"


def _is_own_folder(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
