"""Flower 2.2 executes a file in the working folder, serves /metrics to all, ignores TLS options in URLs."""

import sys
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).parents[1] / "flowerconfig.py"


def install() -> None:
    """Flower 2.2 executes `flowerconfig.py` in the working folder: let it execute worker/flowerconfig.py.

    Only the `celery` command loads Flower; other processes are left alone. FLOWER_CONF and --conf still win.
    """
    if "flower.options" in sys.modules:
        from tornado.options import options  # noqa: PLC0415 -- installed with Flower

        options.conf = str(CONFIGURATION)


def require_login_for_metrics() -> None:
    """Flower 2.2 serves /metrics without a password even when its other pages ask for one."""
    from flower.views import monitor  # noqa: PLC0415 -- only in Flower's process
    from tornado import web  # noqa: PLC0415

    monitor.Metrics.get = web.authenticated(monitor.Metrics.get)


def use_tls_options(app: Any, redis_url: str) -> None:
    """Flower 2.2 counts queues with the TLS options in `broker_use_ssl` and ignores those in the URL."""
    from redis.connection import parse_url  # noqa: PLC0415 -- only in Flower's process

    options = parse_url(redis_url).items()  # type: ignore[no-untyped-call]
    app.conf.broker_use_ssl = {name: value for name, value in options if name.startswith("ssl_")}
