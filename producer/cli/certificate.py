"""`reelhaul verify --certificate` and `--against`: write what others can check, and check it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.markup import escape

from producer.certificate import (
    Contents,
    Difference,
    compare,
    compare_movies,
    make,
    read,
    read_export,
    read_stored,
    write,
)
from producer.cli.render import console, counted, print_json, progress_bar
from worker.clients import storage
from worker.keys import Cell
from worker.settings import settings

#: Differences that get a line each.
SHOWN = 40


def write_certificate(target: Path, cells: Sequence[Cell], *, as_json: bool, quiet: bool) -> None:
    """Write the certificate of the cells; exit code 1 when they are not proven."""
    rate = str(settings().reelhaul_rate)
    with progress_bar("pages", storage().pages.count(), quiet=quiet or as_json) as advance:
        certificate = make(storage(), cells, rate, advance)
    write(certificate, target)
    unproven = sum(row["problem"] is not None for row in certificate["cells"])
    damaged = len(certificate["damaged"])
    facts = {"cells": len(certificate["cells"]), "movies": len(certificate["movies"])}
    if as_json:
        print_json({"root": certificate["root"], "proven": certificate["proven"], **facts})
    else:
        out = console(quiet=quiet)
        counts = f"{counted(facts['cells'], 'cell')}, {counted(facts['movies'], 'movie')}"
        out.print(f"{counts}: certificate written to {escape(str(target))}", soft_wrap=True)
        out.print(f"root {certificate['root']}", soft_wrap=True)
        if unproven:
            out.print(f"{unproven:,} cells are not proven, and it says so: `reelhaul verify`", soft_wrap=True)
        if damaged:
            out.print(f"{counted(damaged, 'movie')} not as saved: `reelhaul verify --hashes`", soft_wrap=True)
    if not certificate["proven"]:
        raise typer.Exit(1)


def check_certificate(source: Path, export: Path | None, *, as_json: bool, quiet: bool) -> None:
    """Compare the store, or an export, with the certificate; exit code 1 when they differ."""
    expected = read(source)
    if export:
        hashes = read_export(export)
        found, extra = (
            list(compare_movies(expected.hashes, hashes)),
            len(hashes.keys() - expected.hashes.keys()),
        )
    else:
        found, extra = _compare_store(expected, quiet=quiet or as_json), 0
    if as_json:
        rows = [difference._asdict() for difference in found]
        print_json({"root": expected.root(), "differences": rows, "movies_not_listed": extra})
    else:
        _print(expected, found, extra, quiet=quiet)
    if found:
        raise typer.Exit(1)


def _compare_store(expected: Contents, *, quiet: bool) -> list[Difference]:
    with progress_bar("pages", storage().pages.count(), quiet=quiet) as advance:
        return list(compare(expected, read_stored(storage(), expected.pages, advance)))


def _print(expected: Contents, found: Sequence[Difference], extra: int, *, quiet: bool) -> None:
    out = console(quiet=quiet)
    for difference in found[:SHOWN]:
        out.print(f"{difference.kind} {difference.id} {difference.text}", soft_wrap=True)
    if len(found) > SHOWN:
        out.print(f"and {len(found) - SHOWN:,} more (--json has all)")
    if extra:
        out.print(f"{counted(extra, 'movie')} that the certificate does not list")
    if found:
        kinds = Counter(difference.kind for difference in found)
        out.print("differs: " + ", ".join(counted(number, kind) for kind, number in kinds.items()))
    else:
        movies = counted(len(expected.hashes), "movie")
        out.print(f"{movies} as certified, root {expected.root()}", soft_wrap=True)
