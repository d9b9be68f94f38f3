"""Lines of a file, or of what an address serves: decompressed, counted, with errors of one line."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from worker.errors import UsageError
from worker.tmdb.session import build_session

#: Given a size in bytes, or None: a context with a function that is told how many bytes were read.
Meter = Callable[[int | None], AbstractContextManager[Callable[[int], None]]]

#: Seconds to wait for the connection, and for each piece of the file.
TIMEOUT_S = (10.0, 30.0)
#: The file is compressed already.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}
_GZIP = b"\x1f\x8b"
#: Bytes read at a time.
_CHUNK = 1 << 18


class NotPublished(UsageError):
    """Nothing is at that address: HTTP 404, or 403, as object stores say it."""


def unmetered(_size: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """A Meter that shows nothing."""
    return nullcontext(lambda _count: None)


def named_source(source: str) -> str:
    """Where lines came from, without folder, user, password or query string; UsageError for a bad URL."""
    if not _is_address(source):
        return Path(source).name
    try:
        parts = urlsplit(source)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError as error:
        raise UsageError(f"the address of the list cannot be used: {error}") from None
    if not host:
        raise UsageError("the address of the list names no host; expected https://HOST/PATH")
    return f"{parts.scheme.lower()}://{host}{parts.path}"


@contextmanager
def opened(source: str, longest: int, meter: Meter = unmetered) -> Iterator[Iterator[bytes]]:
    """The lines of a file or URL, each with its newline; one of more than `longest` bytes in several pieces.

    Raises UsageError, and so does iterating over the lines, when they cannot be read or end too early.
    """
    opening = _downloading if _is_address(source) else _reading
    with opening(source) as (stream, size), meter(size) as on_bytes:
        yield _lines(_CountingStream(stream, on_bytes), named_source(source), longest)


class _CountingStream(io.RawIOBase):
    """A stream that reports how many bytes are read."""

    def __init__(self, stream: io.IOBase, on_bytes: Callable[[int], None]) -> None:
        self._stream: Any = stream
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._stream.readinto(buffer)
        self._on_bytes(count)
        return count


@contextmanager
def _reading(source: str) -> Iterator[tuple[io.IOBase, int | None]]:
    try:
        size = Path(source).stat().st_size
        file = Path(source).open("rb", buffering=0)  # noqa: SIM115 -- closed below
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror or error}") from None
    with file:
        yield file, size


@contextmanager
def _downloading(source: str) -> Iterator[tuple[io.IOBase, int | None]]:
    named = named_source(source)
    # The texts of these errors may quote the whole URL, and with it a secret: show only the type.
    with build_session(source, 1) as session:
        try:
            answer = session.get(source, headers=_HEADERS, stream=True, timeout=TIMEOUT_S)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise UsageError(f"{named}: cannot be fetched: {type(error).__name__}") from None
        with answer:
            if answer.status_code != 200:
                kind = NotPublished if answer.status_code in (403, 404) else UsageError
                raise kind(
                    f"{named}: expected the list, got HTTP {answer.status_code}; "
                    "TMDB has a day's list by 08:00 UTC and keeps it for three months"
                )
            length = answer.headers.get("Content-Length", "")
            # A stream that closes itself at the last byte could not be read once more, to find the end.
            answer.raw.auto_close, answer.raw.decode_content = False, True
            yield answer.raw, int(length) if length.isdecimal() else None


def _lines(stream: _CountingStream, named: str, longest: int) -> Iterator[bytes]:
    number = 1
    try:
        raw = io.BufferedReader(stream, _CHUNK)
        # Go by the bytes, not the name: servers and people decompress files without renaming them.
        unpacked = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
        while line := unpacked.readline(longest + 1):
            number += line.endswith(b"\n")
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise _broken(named, number, "the gzip stream is damaged or cut short") from None
    except HTTPError as error:
        raise _broken(named, number, f"the download broke off ({type(error).__name__})") from None
    except OSError as error:
        raise _broken(
            named, number, f"it cannot be read ({error.strerror or type(error).__name__})"
        ) from None


def _broken(named: str, number: int, reason: str) -> UsageError:
    return UsageError(f"{named}, line {number:,}: {reason}; get the file again")


def _is_address(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))
