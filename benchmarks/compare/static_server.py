"""Canned discover pages from memory: `python -m benchmarks.compare.static_server PORT CATALOGUE PAGES_FILE`.

Rendered by the emulator's code before the first request. A reply costs 0.05 ms, so that a client on the same
two cores is measured and not the server. GET /_log is what has arrived: [[seconds, status, page key], ...].
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from sandbox.emulator.api import TmdbApi
from sandbox.emulator.catalog import Catalog
from sandbox.emulator.clock import EmulatorClock
from sandbox.emulator.items import read_catalog
from sandbox.emulator.requests import ApiRequest, read_request


class Pages:
    """Replies by request target; every arrival of a page is logged by the machine's monotonic clock."""

    def __init__(self, catalogue: Path, keys: list[str]) -> None:
        self._api = TmdbApi(Catalog(read_catalog(catalogue)), EmulatorClock())
        self._canned = {key: self._render(key) for key in keys}
        self._targets: dict[bytes, tuple[str, bytes]] = {}
        self._log: list[tuple[float, int, str]] = []

    def reply(self, target: bytes) -> bytes:
        if target in (b"/_log", b"/_count", b"/_reset"):
            return self._control(target)
        if (known := self._targets.get(target)) is None:
            known = self._targets[target] = self._look_up(target.decode())
        key, reply = known
        if key:
            self._log.append((time.monotonic(), 200, key))
        return reply

    def _control(self, target: bytes) -> bytes:
        if target == b"/_reset":
            self._log.clear()
        return _http(json.dumps(self._log if target == b"/_log" else len(self._log)).encode())

    def _look_up(self, target: str) -> tuple[str, bytes]:
        path, _, query = target.partition("?")
        request = read_request(path, query.encode())
        if request.kind == "discover":
            genre, window, page = request.key.split(":")
            # Reelhaul asks for a year by its first and last day.
            key = f"{genre}:{window[:4]}:{page}"
            return key, self._canned[key]
        return "", _http(self._api.answer(request).body)

    def _render(self, key: str) -> bytes:
        genre, year, page = key.split(":")
        query = {"with_genres": genre, "primary_release_year": year, "page": page}
        query["sort_by"] = "original_title.asc"
        return _http(self._api.answer(ApiRequest("discover", "/3/discover/movie", query)).body)


class Connection(asyncio.Protocol):
    """Keep-alive GET requests, one after another."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- narrows the type
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head, self._unread = self._unread[:end], self._unread[end + 4 :]
            self._transport.write(self._pages.reply(head.split(b" ", 2)[1]))


def _http(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(port: int, catalogue: Path, keys: list[str]) -> None:
    pages = Pages(catalogue, keys)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(pages), "127.0.0.1", port)
    print(f"serves {len(keys)} pages", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).read_text().split()))
