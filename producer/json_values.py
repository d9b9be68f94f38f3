"""Reads JSON values one by one, in flat memory: from JSON Lines, or from a file that is one array."""

import codecs
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from worker.tmdb.responses import finite, no_constant

#: Bytes of one value. The largest known details have 130 kB.
LONGEST = 4 * 1024 * 1024
#: As strict as for TMDB's own responses.
_DECODER = json.JSONDecoder(parse_float=finite, parse_constant=no_constant)
_BLANK = " \t\r\n"


class NotJson(ValueError):
    """What is at `place` (`line 3`) is no JSON value; the text says what was found."""

    def __init__(self, place: str, found: str) -> None:
        super().__init__(f"{place}: {found}")


def json_values(pieces: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """Each value with its place: `line 3`, or `line 1, movie 3` in an array. Raises NotJson.

    `pieces`: lines, or parts of lines. Empty lines are skipped.
    """
    line = 1
    for first in pieces:
        content = first.removeprefix(codecs.BOM_UTF8) if line == 1 else first
        if content.strip():
            read = _array if content.lstrip().startswith(b"[") else _lines
            yield from read(chain([content], pieces), line)
            return
        line += first.endswith(b"\n")


def _lines(pieces: Iterator[bytes], number: int) -> Iterator[tuple[str, Any]]:
    line = b""
    for piece in pieces:
        line += piece
        if len(line) > LONGEST:
            raise NotJson(f"line {number:,}", f"more than {LONGEST:,} bytes")
        if piece.endswith(b"\n"):
            yield from _line(line, number)
            line, number = b"", number + 1
    yield from _line(line, number)


def _line(line: bytes, number: int) -> Iterator[tuple[str, Any]]:
    if not line.strip():
        return
    place = f"line {number:,}"
    try:
        value = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        raise NotJson(place, _reason(error, repr(line.strip())[1:])) from None
    yield place, value


def _array(pieces: Iterator[bytes], line: int) -> Iterator[tuple[str, Any]]:
    text, number = _Text(pieces, line), 0
    text.take("[")
    end = text.take("]", optional=True)
    while not end:
        number += 1
        text.place = f"line {text.line():,}, movie {number:,}"
        yield text.place, text.value()
        end = text.take("]", optional=True)
        if not end:
            text.take(",")
    if rest := text.sign():
        raise NotJson(text.place, f"{rest!r} after the end of the array")


class _Text:
    """The decoded text of the pieces, from where the reader is."""

    def __init__(self, pieces: Iterator[bytes], line: int) -> None:
        self._pieces, self._line = pieces, line
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        #: What is read and not yet dropped, where the reader is in it, and up to where its lines are counted.
        self._text, self._at, self._counted = "", 0, 0
        #: Where the latest value begins, for people.
        self.place = f"line {line:,}"

    def line(self) -> int:
        """The line on which the next sign is."""
        self.sign()
        self._count()
        return self._line

    def sign(self) -> str:
        """The next sign that is not blank, left where it is; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, expected: str, *, optional: bool = False) -> bool:
        """Pass the sign if it comes next. NotJson if another does, unless it is optional."""
        found = self.sign()
        if found == expected:
            self._at += 1
        elif not found:
            raise NotJson(self.place, "the array has no end: the file is cut short")
        elif not optional:
            raise NotJson(self.place, f"{found!r} behind it, where , or ] was expected")
        return found == expected

    def value(self) -> Any:
        """The next value."""
        self.sign()
        while True:
            try:
                value, self._at = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Perhaps only its beginning has been read.
                if len(self._text) - self._at > LONGEST:
                    raise NotJson(self.place, f"not JSON, or more than {LONGEST:,} characters") from None
                if not self._more():
                    raise NotJson(self.place, _reason(error, repr(self._text[self._at :][:60]))) from None
            except (ValueError, RecursionError) as error:
                raise NotJson(self.place, _reason(error, "")) from None
            else:
                return value

    def _more(self) -> bool:
        """Read as much again as is left, so that a value is tried few times; False at the end."""
        self._count()
        parts = [self._text[self._at :]]
        self._at = self._counted = 0
        wanted, added = max(1, len(parts[0])), 0
        while added < wanted and (piece := next(self._pieces, None)) is not None:
            try:
                parts.append(self._decoder.decode(piece))
            except UnicodeDecodeError as error:
                before = "".join(parts).count("\n") + error.object.count(b"\n", 0, error.start)
                raise NotJson(f"line {self._line + before:,}", "not UTF-8") from None
            added += len(parts[-1])
        self._text = "".join(parts)
        return added > 0

    def _count(self) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at


def _reason(error: Exception, text: str) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {text:.60}"
    return f"not JSON: {error}" if isinstance(error, ValueError) else "nested too deeply"
