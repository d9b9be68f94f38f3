"""Certificates: what was fetched, as hashes that others can check against a store or an export, offline.

A certificate covers contents, not times: the totals that TMDB stated of each cell, which movies stood on
which page, and what each of them said. So two hauls of the same catalogue have the same root, whenever they
were made and however often something was fetched again, and one changed byte gives another.

    movie   SHA-256 of the list item as compact JSON, keys sorted: `_meta.sha256`, computed anew
    page    SHA-256 of 00, then the JSON [page, [[id, movie], ...]]
    cell    the Merkle root of SHA-256 of 00, then [cell, total_pages, total_results], and its pages
    root    the Merkle root of the cells, sorted

A Merkle root is that of RFC 6962: a node is SHA-256 of 01 and both halves, the left one the largest power of
two that is smaller than the whole.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from producer.completeness import check_cells
from producer.export import open_target
from producer.import_file import read_movies
from worker.errors import UsageError
from worker.keys import Cell, PageKey, parse_key
from worker.storage.database import Storage
from worker.storage.documents import PageRecord
from worker.storage.merge import content_sha256
from worker.storage.mongo import Document

#: The number of this format, in the file's field `certificate`.
FORMAT = 1
#: Ids of movies that a line names.
SHOWN_IDS = 10


class Totals(NamedTuple):
    """What TMDB stated of a cell; None where its page 1 is missing."""

    pages: int | None
    results: int | None


@dataclass
class Contents:
    """What a certificate covers."""

    #: By cell.
    totals: dict[Cell, Totals] = field(default_factory=dict)
    #: By cell, in order: ids of the movies of its pages, and of the pages of the windows it was split into.
    pages: dict[Cell, dict[PageKey, array[int]]] = field(default_factory=dict)
    #: By id of each movie that stands on a page and is stored.
    hashes: dict[int, bytes] = field(default_factory=dict)
    #: When its pages were fetched; no part of what is covered.
    fetched: set[datetime] = field(default_factory=set)
    #: Movies that are not as they were saved.
    damaged: list[int] = field(default_factory=list)

    def ids(self) -> set[int]:
        """Every movie that stands on a page."""
        return {id_ for pages in self.pages.values() for ids in pages.values() for id_ in ids}

    def page_hash(self, key: PageKey, ids: Iterable[int]) -> bytes:
        movies = [[id_, self.hashes[id_].hex() if id_ in self.hashes else None] for id_ in ids]
        return _leaf([key.id, movies])

    def cell_hash(self, cell: Cell) -> bytes:
        head = _leaf([cell.id, *self.totals[cell]])
        return merkle_root([head, *(self.page_hash(*page) for page in self.pages[cell].items())])

    def root(self) -> str:
        return merkle_root([self.cell_hash(cell) for cell in sorted(self.pages)]).hex()


class Difference(NamedTuple):
    """Something that is not as the certificate says."""

    #: `cell`, `page` or `movie`.
    kind: str
    id: str
    text: str


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root of RFC 6962, of leaves that are hashes already."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256().digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + merkle_root(leaves[:half]) + merkle_root(leaves[half:])).digest()


def read_stored(
    storage: Storage, cells: Iterable[Cell], on_page: Callable[[], None] = lambda: None
) -> Contents:
    """What is stored of the cells. Raises MongoUnavailable."""
    found, stored = Contents(), dict[PageKey, PageRecord]()
    for record in storage.pages.each():
        if record.totals:
            stored[record.key] = record
        on_page()
    for cell in cells:
        first = stored.get(cell.page(1))
        totals = first.totals if first else None
        found.totals[cell] = Totals(totals.pages, totals.results) if totals else Totals(None, None)
        pages = [stored[key] for key in _pages(cell, stored) if key in stored]
        found.pages[cell] = {page.key: array("q", page.movie_ids) for page in pages}
        found.fetched |= {page.totals.fetched_at for page in pages if page.totals}
    wanted = found.ids()
    # Read after the pages, for movies are saved before their page.
    for id_, now, is_as_saved in storage.movies.hashes():
        if id_ in wanted:
            found.hashes[id_] = bytes.fromhex(now)
            if not is_as_saved:
                found.damaged.append(id_)
    return found


def make(
    storage: Storage, cells: Sequence[Cell], rate: str, on_page: Callable[[], None] = lambda: None
) -> Document:
    """The certificate of the cells as they are stored, proven or not. Raises MongoUnavailable."""
    contents = read_stored(storage, cells, on_page)
    problems = {check.cell: check.problem for check in check_cells(storage, cells) if check.problem}
    return {
        "certificate": FORMAT,
        "root": contents.root(),
        "proven": not problems and not contents.damaged,
        "made_at": storage.mongo.now().isoformat(),
        "fetched": [edge(contents.fetched).isoformat() for edge in (min, max) if contents.fetched],
        "rate": rate,
        "cells": [
            {
                "cell": cell.id,
                "sha256": contents.cell_hash(cell).hex(),
                "total_pages": contents.totals[cell].pages,
                "total_results": contents.totals[cell].results,
                "distinct": len({id_ for ids in pages.values() for id_ in ids}),
                "problem": problems[cell].text if cell in problems else None,
                "pages": [
                    {"page": key.id, "sha256": contents.page_hash(key, ids).hex(), "movie_ids": list(ids)}
                    for key, ids in pages.items()
                ],
            }
            for cell, pages in sorted(contents.pages.items())
        ],
        "movies": {str(id_): contents.hashes[id_].hex() for id_ in sorted(contents.hashes)},
        "damaged": sorted(contents.damaged),
    }


def write(certificate: Document, target: Path) -> None:
    """Write the certificate, whole or not at all; UsageError when it cannot be written."""
    with open_target(target, "") as file:
        file.write(json.dumps(certificate, separators=(",", ":")).encode() + b"\n")


def read(source: Path) -> Contents:
    """What a certificate says; UsageError when it cannot be read, or has another root than it states."""
    try:
        document = json.loads(source.read_bytes())
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UsageError(
            f"{source}: not JSON; expected what `reelhaul verify --certificate` writes"
        ) from None
    try:
        if document["certificate"] != FORMAT:
            raise UsageError(f"{source}: certificate format {document['certificate']!r}, expected {FORMAT}")
        contents, root = _parse(document), document["root"]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise UsageError(
            f"{source}: not a certificate; expected what `reelhaul verify --certificate` writes"
        ) from None
    if contents.root() != root:
        raise UsageError(f"{source}: damaged: its root is not that of what it lists")
    return contents


def read_export(source: Path) -> dict[int, bytes]:
    """The hash of each movie in an export, by id; UsageError when it cannot be read."""
    return {movie["id"]: bytes.fromhex(content_sha256(movie)) for movie in read_movies(source)}


def compare(expected: Contents, found: Contents) -> Iterator[Difference]:
    """What is not as expected, of cells, pages and movies."""
    for cell, pages in expected.pages.items():
        now = found.pages[cell]
        if expected.totals[cell] != found.totals[cell]:
            text = f"{_describe(expected.totals[cell])}, now {_describe(found.totals[cell])}"
            yield Difference("cell", cell.id, text)
        for key in sorted(pages.keys() | now.keys()):
            if key not in now:
                yield Difference("page", key.id, "is not stored")
            elif key not in pages:
                yield Difference("page", key.id, "is not in the certificate")
            elif pages[key] != now[key]:
                yield Difference("page", key.id, _describe_ids(pages[key], now[key]))
    yield from compare_movies(expected.hashes, found.hashes)


def compare_movies(expected: dict[int, bytes], found: dict[int, bytes]) -> Iterator[Difference]:
    """Which movies are missing or have changed."""
    for id_, hash_ in expected.items():
        if id_ not in found:
            yield Difference("movie", str(id_), "is missing")
        elif found[id_] != hash_:
            yield Difference("movie", str(id_), "has changed")


def _parse(document: Document) -> Contents:
    contents = Contents(hashes={int(id_): _digest(hash_) for id_, hash_ in document["movies"].items()})
    for row in document["cells"]:
        genre_id, _, window = row["cell"].partition(":")
        cell = Cell(int(genre_id), window)
        contents.totals[cell] = Totals(row["total_pages"], row["total_results"])
        contents.pages[cell] = {
            _page_key(page["page"]): array("q", page["movie_ids"]) for page in row["pages"]
        }
    return contents


def _page_key(text: str) -> PageKey:
    key = parse_key(text)
    if not isinstance(key, PageKey):
        raise TypeError(text)
    return key


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != sha256().digest_size:
        raise ValueError(text)
    return digest


def _pages(cell: Cell, stored: dict[PageKey, PageRecord]) -> Iterator[PageKey]:
    """The pages that the cell consists of, by what its page 1 says; then those of what it was split into."""
    first = cell.page(1)
    yield first
    totals = stored[first].totals if first in stored else None
    for key in cell.rest(totals.pages if totals else 1):
        if key.cell == cell:
            yield key
        else:
            yield from _pages(key.cell, stored)


def _leaf(value: Any) -> bytes:
    return sha256(b"\0" + json.dumps(value, separators=(",", ":")).encode()).digest()


def _describe(totals: Totals) -> str:
    return "no page 1" if totals.pages is None else f"{totals.results:,} movies on {totals.pages:,} pages"


def _describe_ids(expected: array[int], now: array[int]) -> str:
    lacks, more = sorted({*expected} - {*now}), sorted({*now} - {*expected})
    parts = [f"lacks {_name(lacks)}"] if lacks else []
    if more:
        parts.append(f"has {_name(more)} as well")
    return ", ".join(parts) or "has the same movies in another order"


def _name(ids: list[int]) -> str:
    more = f" and {len(ids) - SHOWN_IDS:,} more" if len(ids) > SHOWN_IDS else ""
    return ", ".join(map(str, ids[:SHOWN_IDS])) + more
