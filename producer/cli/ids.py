"""`reelhaul ids`: load TMDB's daily id export, from a file or a URL, into MongoDB."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import requests
import typer
from rich.markup import escape
from urllib3.exceptions import HTTPError

from producer.audit import as_dict, describe
from producer.cli.options import AsJson, Quiet, command_group
from producer.cli.render import console, counted, print_json, progress_bar
from worker.clients import fleet_now, storage
from worker.errors import UsageError
from worker.storage.id_export import LONGEST_LINE
from worker.tmdb.session import build_session

ids = command_group("TMDB's daily id export: show, load.")

#: Seconds to wait for the connection, and for each piece of the file.
TIMEOUT_S = (10.0, 30.0)
#: The file is compressed already.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}
_GZIP = b"\x1f\x8b"
#: Bytes read at a time.
_CHUNK = 1 << 18


@ids.callback()
def overview(context: typer.Context, as_json: AsJson = False) -> None:
    """Show which list is loaded, unless a subcommand follows; with --json, null for none."""
    if context.invoked_subcommand:
        return
    loaded = storage().id_export.current()
    if as_json:
        print_json(as_dict(loaded) if loaded else None)
    elif loaded:
        console().print(escape(describe(loaded)), soft_wrap=True)
    else:
        console().print("no list of ids is loaded: `reelhaul ids load --help`")


@ids.command()
def load(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file (JSON Lines, gzip or not) or a URL.")
    ],
    quiet: Quiet = False,
) -> None:
    """Load TMDB's daily list of movie ids for `reelhaul verify --ids`, in place of the previous one."""
    named, at = named_source(source), fleet_now()
    with opened(source, quiet=quiet) as lines:
        movies = storage().id_export.load(lines, named, at)
    console(quiet=quiet).print(escape(f"{counted(movies, 'movie')} loaded from {named}"), soft_wrap=True)


def named_source(source: str) -> str:
    """Where a list came from, without folder, user, password or query string; UsageError for a bad URL."""
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
def opened(source: str, *, quiet: bool = True) -> Iterator[Iterator[bytes]]:
    """The lines of a file or URL, decompressed, with a progress bar.

    Raises UsageError, and so does iterating over the lines, when they cannot be read or end too early.
    """
    opening = _downloading if _is_address(source) else _reading
    with opening(source) as (stream, size), progress_bar("ids", size, quiet=quiet, in_bytes=True) as on_bytes:
        yield _lines(_CountingStream(stream, on_bytes), named_source(source))


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
    with build_session(None, 1, source) as session:
        try:
            answer = session.get(source, headers=_HEADERS, stream=True, timeout=TIMEOUT_S)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise UsageError(f"{named}: cannot be fetched: {type(error).__name__}") from None
        with answer:
            if answer.status_code != 200:
                raise UsageError(
                    f"{named}: expected the list, got HTTP {answer.status_code}; "
                    "TMDB has a day's list by 08:00 UTC and keeps it for three months"
                )
            length = answer.headers.get("Content-Length", "")
            # A stream that closes itself at the last byte could not be read once more, to find the end.
            answer.raw.auto_close, answer.raw.decode_content = False, True
            yield answer.raw, int(length) if length.isdecimal() else None


def _lines(stream: _CountingStream, named: str) -> Iterator[bytes]:
    number = 0
    try:
        raw = io.BufferedReader(stream, _CHUNK)
        # Go by the bytes, not the name: servers and people decompress files without renaming them.
        unpacked = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
        while line := unpacked.readline(LONGEST_LINE + 1):
            number += 1
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
    return UsageError(f"{named}, line {number + 1:,}: {reason}; download it again; nothing was changed")


def _is_address(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))
