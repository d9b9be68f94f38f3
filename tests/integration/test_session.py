"""Requests on the wire end by their deadline, and odd responses become a page or an error."""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from sandbox.servers import EmbeddedRedis, EmulatorProcess
from tests.integration.test_security import certificate
from worker.errors import ApiFailure, ReelhaulError
from worker.keys import PageKey
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate
from worker.records import Page
from worker.tmdb.client import TmdbClient
from worker.tmdb.credentials import Credentials
from worker.tmdb.endpoints import discover
from worker.tmdb.session import build_session, ends_by

KEY = PageKey(18, "2020", 1)
TOKEN = "a-token-of-nobody"  # noqa: S105 -- made up
#: Seconds that the client waits for a byte and for a whole response; servers drip for DRIPS_S.
TIMEOUT_S, WHOLE_S, DRIPS_S = 0.5, 1.0, 12.0
#: A complete page.
PAGE = b'{"page":1,"results":[{"id":603}],"total_pages":1,"total_results":1}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE)

Talk = Callable[[socket.socket], None]


class RawServer:
    """Runs `talk` on every connection."""

    def __init__(self, talk: Talk, context: ssl.SSLContext | None = None) -> None:
        self._talk, self._context = talk, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=self._listener.accept()[:1], daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(client)
            client.settimeout(30)
            if self._context:
                client = stack.enter_context(self._context.wrap_socket(client, server_side=True))
            self._talk(client)


def read_head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        if not (chunk := client.recv(65536)):
            raise ConnectionError("gone")
        head += chunk
    return head


def says(response: bytes) -> Talk:
    """The same response to each request of a connection, which stays open."""

    def talk(client: socket.socket) -> None:
        while True:
            read_head(client)
            client.sendall(response)

    return talk


def drips(first: bytes, again: bytes) -> Talk:
    """`first`, then `again` five times per TIMEOUT_S, for DRIPS_S."""

    def talk(client: socket.socket) -> None:
        read_head(client)
        client.sendall(first)
        end = time.monotonic() + DRIPS_S
        while time.monotonic() < end:
            time.sleep(TIMEOUT_S / 5)
            client.sendall(again)

    return talk


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    with ExitStack() as stack:

        def start(talk: Talk, context: ssl.SSLContext | None = None) -> RawServer:
            server = RawServer(talk, context)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="module")
def limiter(redis_server: EmbeddedRedis) -> Limiter:
    """One limiter for all tests; its listener needs the Redis client until the process ends."""
    return Limiter(redis.Redis.from_url(redis_server.url), Rate(5000, 1), 500, key="limiter-of-test-session")


@pytest.fixture
def client(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TmdbClient]]:
    """Makes a client for a base URL."""
    monkeypatch.setattr("worker.tmdb.client.WHOLE_S", WHOLE_S)
    with ExitStack() as stack:

        def make(base_url: str, *, api_key: str = "") -> TmdbClient:
            credentials = Credentials(api_key=api_key) if api_key else Credentials(TOKEN)
            limiter.resume()
            session = stack.enter_context(build_session(base_url, 4, credentials))
            return TmdbClient(session, base_url, limiter, TIMEOUT_S, credentials)

        yield make


def ask(api: TmdbClient, key: PageKey = KEY) -> Page | ReelhaulError:
    """The page or the error; any other exception fails the test."""
    try:
        return api.get(key, discover, time.monotonic() + 5)
    except ReelhaulError as error:
        return error


#: By the part that drips: what is sent at once, and what is sent again and again.
DRIPPING = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"X: y\r\n"),
    "body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
}


class TestDeadline:
    @pytest.mark.parametrize("what", DRIPPING)
    def test_a_dripping_response_ends(
        self, serve: Callable[..., RawServer], client: Callable[..., TmdbClient], what: str
    ) -> None:
        server = serve(drips(*DRIPPING[what]))
        begun = time.monotonic()
        assert type(ask(client(f"http://127.0.0.1:{server.port}/3"))) is ApiFailure
        assert time.monotonic() - begun < DRIPS_S / 2

    def test_a_dripping_response_over_tls_and_through_a_proxy_ends(
        self, serve: Callable[..., RawServer], client: Callable[..., TmdbClient], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        key, cert = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
        whole, dripping = serve(says(OK), context), serve(drips(*DRIPPING["headers"]), context)
        proxy = serve(connects)
        for through in ("", f"http://127.0.0.1:{proxy.port}"):
            monkeypatch.setenv("HTTPS_PROXY", through)
            assert isinstance(ask(client(f"https://127.0.0.1:{whole.port}/3")), Page)
            begun = time.monotonic()
            assert type(ask(client(f"https://127.0.0.1:{dripping.port}/3"))) is ApiFailure
            assert time.monotonic() - begun < DRIPS_S / 2

    def test_a_dripping_proxy_ends(
        self, serve: Callable[..., RawServer], client: Callable[..., TmdbClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(drips(*DRIPPING['headers'])).port}")
        begun = time.monotonic()
        assert type(ask(client("https://192.0.2.1/3"))) is ApiFailure
        assert time.monotonic() - begun < DRIPS_S / 2

    def test_silent_addresses_share_the_deadline(
        self, client: Callable[..., TmdbClient], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Their backlogs are full, so the kernel drops connection attempts."""
        with ExitStack() as stack:
            port = 0
            addresses = [f"127.0.0.{number}" for number in range(2, 10)]
            for address in addresses:
                listener = stack.enter_context(socket.create_server((address, port), backlog=0))
                port = listener.getsockname()[1]
                for _ in range(4):
                    full = stack.enter_context(socket.socket())
                    full.setblocking(False)
                    full.connect_ex((address, port))
            resolve = socket.getaddrinfo

            def many(host: Any, *args: Any, **options: Any) -> Any:
                names = addresses if host == "tmdb.test" else [host]
                return [found for name in names for found in resolve(name, *args, **options)]

            monkeypatch.setattr(socket, "getaddrinfo", many)
            monkeypatch.setattr("worker.tmdb.client.CONNECT_S", 0.7)
            begun = time.monotonic()
            assert type(ask(client(f"http://tmdb.test:{port}/3"))) is ApiFailure
            assert time.monotonic() - begun < 0.7 * len(addresses) / 2

    def test_the_next_address_is_tried(
        self, serve: Callable[..., RawServer], client: Callable[..., TmdbClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        port, resolve = serve(says(OK)).port, socket.getaddrinfo

        def two(host: Any, *args: Any, **options: Any) -> Any:
            names = ["127.0.0.77", "127.0.0.1"] if host == "tmdb.test" else [host]
            return [found for name in names for found in resolve(name, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", two)
        assert isinstance(ask(client(f"http://tmdb.test:{port}/3")), Page)

    def test_without_a_deadline_a_slow_download_completes(self, serve: Callable[..., RawServer]) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        with build_session("http://127.0.0.1", 1) as session:
            url = f"http://127.0.0.1:{serve(drips(head, b'x')).port}/"
            assert session.get(url, timeout=TIMEOUT_S).content == b"xxxxx"
            with ends_by(time.monotonic() + 0.15), pytest.raises(requests.RequestException):
                session.get(url, timeout=TIMEOUT_S)


def connects(client: socket.socket) -> None:
    """A proxy: CONNECT, then bytes both ways."""
    head = read_head(client)
    host, _, port = head.split()[1].decode().partition(":")
    with socket.create_connection((host, int(port))) as server:
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def pump(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while chunk := source.recv(65536):
                    target.sendall(chunk)
                target.shutdown(socket.SHUT_WR)

        threading.Thread(target=pump, args=(client, server), daemon=True).start()
        pump(server, client)


def head(*lines: bytes, status: bytes = b"200 OK", body: bytes = PAGE) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"Content-Length: %d" % len(body), b"", body])


#: Responses that are hard to parse.
ODD = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "an old version": b"HTTP/0.9 200 OK\r\n\r\n" + PAGE,
    "a status that is not a number": b"HTTP/1.1 OK OK\r\n\r\n",
    "a status of 1000": b"HTTP/1.1 1000 OK\r\n\r\n",
    "a status of 0": b"HTTP/1.1 000 OK\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "an endless line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
    "no colon": head(b"a line without one", b"X: y"),
    "an empty name": head(b": x"),
    "bytes above 127": head(b"X\xff\xfe: \xff\xc3\x28"),
    "a length that is not a number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + PAGE,
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + PAGE,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 7\r\n\r\n" + PAGE,
    "a length of 5000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n" + PAGE,
    "chunks without a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a huge chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nhello\r\n",
    "a wrong coding": head(b"Content-Encoding: gzip"),
    "an unknown coding": head(b"Content-Encoding: snappy"),
    "many codings": head(b"Content-Encoding: " + b", ".join([b"gzip"] * 50)),
    "an empty charset": head(b"Content-Type: text/html; charset"),
    "an odd charset": head(b"Content-Type: text/html; charset=\xff; charset=; =x"),
    "cookies": head(b"Set-Cookie:", b"Set-Cookie: =", b"Set-Cookie: a=b; expires=never; domain=\xff",
                    b"Set-Cookie: a=" + b"b" * 5_000, b"Set-Cookie: \xff\xfe; path=\x01; version=x"),
    "a redirect nowhere": head(b"Location: http://[::1", status=b"302 Found"),
    "a redirect to odd bytes": head(b"Location: \xff\xfe//\x01:99999", status=b"301 Moved"),
    "a redirect without a location": head(status=b"302 Found"),
    "a redirect to a file": head(b"Location: file:///etc/passwd", status=b"307 Moved"),
    "a label that is too long": head(b"Location: http://" + b"x" * 300 + b".test/", status=b"308 Moved"),
    "an odd Retry-After": head(b"Retry-After: \xff", b"Date: \x01", status=b"429 No"),
    "a proxy that asks for a password": head(b"Proxy-Authenticate: Basic \xff", status=b"407 No"),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_odd_responses_become_a_page_or_an_error(
    serve: Callable[..., RawServer], client: Callable[..., TmdbClient], what: str
) -> None:
    api = client(f"http://127.0.0.1:{serve(says(ODD[what])).port}/3")
    for _ in range(2):  # the second uses the connection that the first has left
        assert isinstance(ask(api), Page | ReelhaulError)


@pytest.mark.parametrize("host", ["x" * 300, "a..b", "\u0130\u2028", "host:99999", "bad host", "%00"])
def test_odd_hosts_are_failures(client: Callable[..., TmdbClient], host: str) -> None:
    assert isinstance(ask(client(f"http://{host}/3")), ApiFailure)


def test_malformed_headers_do_not_log_the_key(
    serve: Callable[..., RawServer], client: Callable[..., TmdbClient], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    api = client(f"http://127.0.0.1:{serve(says(ODD['no colon'])).port}/3", api_key=TOKEN)
    ask(api)
    assert TOKEN not in caplog.text


def test_early_hints_do_not_shift_responses_to_the_next_request(
    emulator: Callable[..., EmulatorProcess], client: Callable[..., TmdbClient]
) -> None:
    server = emulator("--movies", "2000")
    years = [PageKey(18, str(year), 1) for year in range(2015, 2025)]
    api = client(server.base_url)
    wanted = [ask(api, key).results for key in years]  # type: ignore[union-attr]
    server.configure(faults=["early-hints=0.2"])
    assert [ask(api, key).results for key in years] == wanted  # type: ignore[union-attr]
