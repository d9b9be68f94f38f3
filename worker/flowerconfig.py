"""Flower's configuration. Flower executes this file when it starts: the names set below are its options.

Environment variables (FLOWER_...) and the command line override them. Flower does not start when people
on other machines could open it without a password.
"""

import glob
import os
from pathlib import Path

from tornado.options import options as given

from worker.app import app as fleet
from worker.errors import UsageError
from worker.monitoring.run_folder import fault_of, open_run_folder
from worker.patches import flower
from worker.settings import is_loopback
from worker.settings import settings as ours
from worker.signals import exit_with


def _check_access(host: str, credentials: list[str]) -> None:
    for pair in credentials:
        if not all(pair.partition(":")[::2]):
            exit_with("Flower's credentials must be user:password (FLOWER_BASIC_AUTH or --basic-auth)")
    if not (is_loopback(host) or credentials or given.auth):
        exit_with(
            f"Flower would show the fleet to anybody who reaches {host}: set "
            "FLOWER_BASIC_AUTH=user:password, or leave --address at 127.0.0.1"
        )
    if os.environ.get("FLOWER_UNAUTHENTICATED_API"):
        exit_with("FLOWER_UNAUTHENTICATED_API opens Flower's API to every page in a browser: unset it")


def _run_folder() -> Path:
    try:
        return open_run_folder(ours().reelhaul_run_folder)
    except UsageError as error:
        exit_with(error)


def _check_database(db: Path) -> None:
    """Exit if others may write to Flower's database: Flower unpickles it, which can run any code."""
    folder = db.absolute().parent.resolve()
    # dbm may add a suffix of its own to the name, depending on how Python was built.
    for path in (folder, *folder.glob(f"{glob.escape(db.name)}*")):
        if os.path.lexists(path) and (fault := fault_of(path)):
            exit_with(f"Flower's database {path}: {fault}; keep it where nobody else may write (--db=FILE)")


def _check_all() -> None:
    """Check the final options: Flower reads the command line again after this file."""
    # With an empty address, Flower would listen at every address.
    given.address = given.address or "127.0.0.1"
    _check_access(given.address, given.basic_auth or [])
    if given.persistent:
        _check_database(Path(given.db))


given.add_parse_callback(_check_all)

if "FLOWER_READ_ONLY" not in os.environ:
    read_only = True

# Flower's view of tasks survives restarts. It is saved every minute: 10,000 tasks take a third of a second.
persistent = True
if given.db == "flower":  # Flower's default
    db = str(_run_folder() / "flower.db")
if "FLOWER_STATE_SAVE_INTERVAL" not in os.environ:
    state_save_interval = 60_000
if "FLOWER_MAX_TASKS" not in os.environ:
    max_tasks = 10_000

# Never `exception`: Flower 2.2 does not escape it in this table. A task's own page shows it.
if "FLOWER_TASKS_COLUMNS" not in os.environ:
    tasks_columns = "args,state,received,runtime,worker,uuid"

flower.require_login_for_metrics()
flower.use_tls_options(fleet, ours().redis_url.get_secret_value())
