"""The receiver at REELHAUL_WEBHOOK: a real HTTP server that keeps what it takes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

#: A secret path, as chat services have it.
PATH = "/services/T0000/0123456789abcdefghijKLMN?token=s3cret-of-the-receiver"
SECRETS = ("0123456789abcdefghijKLMN", "s3cret-of-the-receiver")


class Receiver:
    """Answers with `status` once `answers` is set, as it is at first."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}{PATH}"
        self.status, self.answers = 200, Event()
        self.answers.set()
        #: Documents that were answered with 200, and how many requests arrived.
        self.taken: list[dict[str, Any]] = []
        self.arrived = 0

    def events(self) -> list[str]:
        return [document["event"] for document in self.taken]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver that runs until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == PATH, self.path
            assert self.headers["Content-Type"] == "application/json"
            ours.arrived += 1
            ours.answers.wait()
            status = ours.status
            if status == 200:
                ours.taken.append(json.loads(body))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print no line per request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ours = Receiver(server.server_port)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield ours
        ours.answers.set()
        server.shutdown()
