"""Celery 5.7 takes `--pool prefork` for no choice when `worker_pool` is configured.

So the default pool is set where Celery's command line keeps it, and `worker_pool` stays unset.
"""

from __future__ import annotations

import sys
from typing import Any


def install() -> None:
    """Make `threads` the default of `celery worker --pool`, if this process is that command."""
    module: Any = sys.modules.get("celery.bin.worker")
    if module:
        for option in module.worker.params:
            if option.name == "pool_cls":
                option.default = "threads"
