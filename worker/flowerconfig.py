"""Flower's configuration, which Flower executes when it starts: the names below are its options.

The environment (FLOWER_...) and the command line say otherwise where needed. Whoever may see Flower is
either on this machine or has a name and a password: anything else is refused, in one line.
"""

import glob
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from tornado.options import options as given

from worker.app import app as fleet
from worker.errors import UsageError
from worker.monitoring.run_folder import fault_of, open_run_folder
from worker.patches import flower
from worker.settings import settings as ours


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"reelhaul: {reason}\n")
    sys.exit(2)


def _check(host: str, credentials: list[str]) -> None:
    for pair in credentials:
        if not all(pair.partition(":")[::2]):
            _refuse("Flower's credentials must be user:password (FLOWER_BASIC_AUTH or --basic-auth)")
    if not (_loopback(host) or credentials or given.auth):
        _refuse(
            f"Flower would show the fleet to anybody who reaches {host}: set "
            "FLOWER_BASIC_AUTH=user:password, or leave --address at 127.0.0.1"
        )
    if os.environ.get("FLOWER_UNAUTHENTICATED_API"):
        _refuse("FLOWER_UNAUTHENTICATED_API opens Flower's API to every page in a browser: unset it")


def _run_folder() -> Path:
    try:
        return open_run_folder(ours().reelhaul_run_folder)
    except UsageError as error:
        _refuse(str(error))


def _check_memory(db: Path) -> None:
    """Flower unpickles it, so whoever may write there has code run here."""
    folder = db.absolute().parent.resolve()
    # What dbm calls its files depends on how Python was built: the name may have an end of dbm's own.
    for path in (folder, *folder.glob(f"{glob.escape(db.name)}*")):
        if os.path.lexists(path) and (fault := fault_of(path)):
            _refuse(f"Flower's memory {path}: {fault}; keep it where nobody else may write (--db=FILE)")


def _check_all() -> None:
    """What counts in the end: the command line is read once more after this file."""
    # Without an address, Flower would listen everywhere.
    given.address = given.address or "127.0.0.1"
    _check(given.address, given.basic_auth or [])
    if given.persistent:
        _check_memory(Path(given.db))


given.add_parse_callback(_check_all)

if "FLOWER_READ_ONLY" not in os.environ:
    read_only = True

# Kept over restarts, saved every minute: that many tasks take a third of a second.
persistent = True
if given.db == "flower":  # Flower's default
    db = str(_run_folder() / "flower.db")
if "FLOWER_STATE_SAVE_INTERVAL" not in os.environ:
    state_save_interval = 60_000
if "FLOWER_MAX_TASKS" not in os.environ:
    max_tasks = 10_000

# Never `exception`: Flower 2.2 writes it into the page unescaped. A task's own page shows it.
if "FLOWER_TASKS_COLUMNS" not in os.environ:
    tasks_columns = "args,state,received,runtime,worker,uuid"

flower.require_login_for_metrics()
flower.use_tls_options(fleet, ours().redis_url.get_secret_value())
