"""Celery 5.7 ignores `--pool prefork` when the setting `worker_pool` names another pool.

So `worker_pool` stays unset, and `threads` becomes the default of the option `--pool`.
"""

import sys
from typing import Any


def install() -> None:
    """Change the option's default if this process is the `celery` command; others do not load the option."""
    module: Any = sys.modules.get("celery.bin.worker")
    if module:
        [option] = [option for option in module.worker.params if option.name == "pool"]
        option.default = "threads"
