"""The run folder, in which a host's processes meet: locks, heartbeats, metrics, Flower's database.

Nobody else may write there: Flower unpickles its file, so whoever can replace it can run code. Standard
library only, for `reelhaul health`.
"""

import os
import stat
from pathlib import Path
from tempfile import gettempdir

from worker.errors import UsageError

ADVICE = "remove it, or set REELHAUL_RUN_FOLDER to a folder of your own"


def default_run_folder() -> Path:
    """The run folder without a setting: one per user.

    Not cached: the runtime folder ends with the login session, and processes that go on then meet in /tmp.
    """
    # Cron jobs and system services lack the variable and must find the same folder.
    for runtime in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}"):
        if runtime and _is_own_folder(Path(runtime)):
            return Path(runtime) / "reelhaul"
    return Path(gettempdir()) / f"reelhaul-{os.geteuid()}"


def open_run_folder(folder: Path | None) -> Path:
    """Return the folder (None: the default), made if it does not exist.

    UsageError when it cannot be used, or when others may write to it.
    """
    path = folder or default_run_folder()
    try:
        if not os.path.lexists(path):  # a dangling link exists, and is rejected below
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"run folder {path}: cannot be made: {error.strerror}; {ADVICE}") from None
    fault = fault_of(path) or _use_fault(path)
    if fault:
        raise UsageError(f"run folder {path}: {fault}; {ADVICE}")
    return path


def fault_of(path: Path) -> str:
    """Why others may have written this file or folder; "" when only this user and root can have.

    A parent that others may write to needs the sticky bit, which keeps them from replacing what is in it.
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
            return f"others may replace it, because they may write to {parent}"
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
