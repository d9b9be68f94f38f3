"""Flower's configuration, which Flower executes when it starts: the names below are its options.

The environment (FLOWER_...) and the command line say otherwise where needed. Whoever may see Flower is
either on this machine or has a name and a password: anything else is refused, in one line.
"""

import os
import sys
from ipaddress import ip_address
from pathlib import Path

from flower.views import monitor
from redis.connection import parse_url
from tornado import web
from tornado.options import options as given

from worker.app import app as fleet
from worker.settings import settings as ours


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse(reason: str) -> None:
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


# Without an address, Flower would listen everywhere.
address = given.address or "127.0.0.1"
_check(address, given.basic_auth or [])

if "FLOWER_READ_ONLY" not in os.environ:
    read_only = True

# Kept over restarts, saved every minute: that many tasks take a third of a second.
persistent = True
if "FLOWER_DB" not in os.environ:
    _folder: Path = ours().reelhaul_run_folder
    _folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    db = str(_folder / "flower.db")
if "FLOWER_STATE_SAVE_INTERVAL" not in os.environ:
    state_save_interval = 60_000
if "FLOWER_MAX_TASKS" not in os.environ:
    max_tasks = 10_000

# Never `exception`: Flower 2.2 writes it into the page unescaped. A task's own page shows it.
if "FLOWER_TASKS_COLUMNS" not in os.environ:
    tasks_columns = "args,state,received,runtime,worker,uuid"

# Flower 2.2 asks nobody who reads its metrics.
monitor.Metrics.get = web.authenticated(monitor.Metrics.get)

# Flower 2.2 counts what waits in the lanes with this setting's TLS options; it does not see the address' own.
_options = parse_url(ours().redis_url.get_secret_value()).items()  # type: ignore[no-untyped-call]
fleet.conf.broker_use_ssl = {name: value for name, value in _options if name.startswith("ssl_")}
