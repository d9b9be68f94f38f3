"""The APIs of a comparison: canned pages without a limit, or the emulator with one."""

import sys
from pathlib import Path
from typing import Any

import requests

from sandbox.embedded import HOST, EmbeddedServer
from sandbox.processes import ChildProcess
from sandbox.servers import EmulatorProcess

#: An arrival: seconds on the machine's monotonic clock, HTTP status, page key.
Arrival = tuple[float, int, str]


class StaticServer(EmbeddedServer):
    """benchmarks.compare.static_server."""

    name = "Pages"

    def __init__(self, catalogue: Path, pages: Path) -> None:
        super().__init__()
        self._files = (str(catalogue), str(pages))

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}/3"

    @property
    def environment(self) -> dict[str, str]:
        return {"TMDB_BASE_URL": self.base_url}

    def count(self) -> int:
        """Requests for pages since the last reset."""
        number: int = self._get("count")
        return number

    def arrivals(self) -> list[Arrival]:
        return [(at_s, status, key) for at_s, status, key in self._get("log")]

    def reset(self) -> None:
        self._get("reset")

    def _get(self, name: str) -> Any:
        return requests.get(f"http://{HOST}:{self.port}/_{name}", timeout=10).json()

    def _command(self, port: int, folder: Path) -> list[str]:  # noqa: ARG002 -- it keeps no files
        return [sys.executable, "-m", "benchmarks.compare.static_server", str(port), *self._files]

    def _answers(self, child: ChildProcess, port: int) -> bool:  # noqa: ARG002 -- it prints when it serves
        return "serves" in child.log_text()


class LimitedServer(EmulatorProcess):
    """The emulator, with the same questions as the static server."""

    def count(self) -> int:
        return int(self.stats()["by_kind"].get("discover", 0))

    def arrivals(self) -> list[Arrival]:
        return [(row[1], row[2] or 0, row[4]) for row in self.log() if row[3] == "discover"]


Api = StaticServer | LimitedServer
