"""TMDB's responses and what they are parsed into: plain values, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Response:
    """An HTTP response as far as it arrived; status 0: nothing did."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A page of a list: raw items, each with an id, in TMDB's order."""

    number: int
    results: list[dict[str, Any]]
    total_pages: int
    total_results: int
    #: When it was requested, by the fleet's clock: the content is at least as new.
    fetched_at: datetime
    #: Of the body, hexadecimal.
    sha256: str
    body: bytes


@dataclass(frozen=True)
class Details:
    """One movie's details, raw."""

    movie: dict[str, Any]
    #: As in Page.
    fetched_at: datetime
    body: bytes
    #: Which parts were requested with it; TMDB leaves out what it does not know.
    parts: tuple[str, ...] = ()
