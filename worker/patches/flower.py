"""Flower 2.2 reads its configuration from a file in the working folder, and shows /metrics to everybody.

It also ignores the TLS options in the broker's address when it counts queues.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).parents[1] / "flowerconfig.py"


def install() -> None:
    """Make worker/flowerconfig.py Flower's default configuration, if this process may become Flower."""
    if "flower.options" in sys.modules:
        from tornado.options import options  # noqa: PLC0415 -- only there when Flower is

        options.conf = str(CONFIGURATION)


def require_login_for_metrics() -> None:
    """Flower 2.2's /metrics asks for no password."""
    from flower.views import monitor  # noqa: PLC0415 -- only in Flower's process
    from tornado import web  # noqa: PLC0415

    monitor.Metrics.get = web.authenticated(monitor.Metrics.get)


def use_tls_options(app: Any, redis_url: str) -> None:
    """Flower 2.2 counts queues with `broker_use_ssl` alone and does not read the address' own options."""
    from redis.connection import parse_url  # noqa: PLC0415 -- only in Flower's process

    options = parse_url(redis_url).items()  # type: ignore[no-untyped-call]
    app.conf.broker_use_ssl = {name: value for name, value in options if name.startswith("ssl_")}
