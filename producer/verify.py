"""The proof: every cell's distinct movies against what TMDB says it holds, and the gaps if there are any.

Pages shift while they are read: in 5 of 27 recorded pairs of pages one movie stood on both, and the one
it displaced on neither. A cell whose pages are all stored can so be short of a movie, and only counting
distinct ids tells.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from producer.audit import Audit, audit, plain, words
from producer.coverage import Ledger
from producer.display import advancing, console
from producer.enqueue import known_backfills
from worker.bootstrap import fleet_now, id_export, store
from worker.errors import UsageError
from worker.pages import MAX_PAGE, Cell
from worker.store import Store
from worker.tasks import send

#: Ids of missing or gone movies in one line for a person.
SHOWN_IDS = 20


@dataclass(frozen=True)
class Proof:
    """One cell: how many distinct movies its pages hold, how many TMDB says there are."""

    cell: Cell
    found: int
    said: int

    @property
    def gap(self) -> int:
        """Movies that TMDB says the cell has and no page of it holds."""
        return max(0, self.said - self.found)


def prove(store: Store, cells: Iterable[Cell], on_page: Callable[[], None] = lambda: None) -> Iterator[Proof]:
    """A proof of each cell that is open, that is, whose page 1 is stored; `on_page` for each page read."""
    ids: dict[Cell, array[int]] = defaultdict(lambda: array("q"))
    said: dict[Cell, tuple[int, int]] = {}
    for key, mark in store.each_page():
        ids[key.cell].extend(mark["movie_ids"])
        if key.page == 1:
            said[key.cell] = (mark["total_pages"], mark["total_results"])
        on_page()

    def distinct(cell: Cell) -> set[int]:
        found = set(ids.get(cell, ()))
        if said.get(cell, (0, 0))[0] > MAX_PAGE:
            found.update(*(distinct(half) for half in cell.halves()))
        return found

    for cell in cells:
        if cell in said:
            yield Proof(cell, len(distinct(cell)), said[cell][1])


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Fetch the cells with gaps again.")] = False,
    by_ids: Annotated[
        bool, typer.Option("--ids", help="Against TMDB's daily list of ids, which `reelhaul ids load` loads.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Prove that nothing is missing: exit 0 when every page is stored and every cell holds all its movies."""
    if by_ids:
        if repair:
            raise UsageError("--repair fetches cells again, and --ids looks at no cell: use one of them")
        _verify_ids(as_json=as_json, quiet=quiet)
        return
    backfills = known_backfills(store())
    if not backfills:
        raise UsageError(
            "nothing was asked for yet, so there is nothing to prove: `reelhaul backfill --help`"
        )
    cells = list(dict.fromkeys(cell for backfill in backfills for cell in backfill.cells()))
    with advancing("pages", store().count_pages(), quiet=quiet or as_json) as on_page:
        gaps = [proof for proof in prove(store(), cells, on_page) if proof.gap]
    ledger = Ledger.read(store(), [None])[None]
    missing = sum(ledger.coverage(cell).missing for cell in cells)
    if as_json:
        rows = [
            {"cell": f"{gap.cell.genre_id}:{gap.cell.window}", "found": gap.found, "said": gap.said}
            for gap in gaps
        ]
        typer.echo(json.dumps({"cells": len(cells), "pages_missing": missing, "gaps": rows}))
    else:
        _tell(console(quiet=quiet), len(cells), missing, gaps)
    if repair and gaps:
        # From page 1 on: what displaced a movie may have moved every page behind it.
        sent = send((gap.cell.page(1) for gap in gaps), int(fleet_now().timestamp() * 1000), "refresh")
        console(quiet=quiet or as_json).print(
            f"{sent:,} cells enqueued to be fetched again; verify again when they are"
        )
    if missing or gaps:
        raise typer.Exit(1)


def _tell(out: Console, cells: int, missing: int, gaps: list[Proof]) -> None:
    for gap in sorted(gaps, key=lambda gap: -gap.gap):
        out.print(f"{gap.cell.genre_id}:{gap.cell.window}: {gap.gap:,} of {gap.said:,} movies on no page")
    if missing or gaps:
        short = sum(gap.gap for gap in gaps)
        out.print(
            f"{cells:,} cells: {missing:,} pages missing (`reelhaul backfill` again), "
            f"{len(gaps):,} cells short of {short:,} movies (`reelhaul verify --repair`)"
        )
    else:
        out.print(f"{cells:,} cells: every page stored, every cell holds all the movies TMDB says it has")


def _verify_ids(*, as_json: bool, quiet: bool) -> None:
    with advancing("movies", store().count_movies(), quiet=quiet or as_json) as on_movie:
        found = audit(store(), id_export(), on_movie)
    if as_json:
        facts = {
            "list": plain(found.loaded),
            "stored": found.stored,
            "missing": found.missing.tolist(),
            "missing_adult": found.missing_adult,
            "missing_video": found.missing_video,
            "gone": found.gone.tolist(),
            "newer": found.newer,
        }
        typer.echo(json.dumps(facts))
    else:
        _tell_ids(console(quiet=quiet), found)
    if found.missing or found.gone:
        raise typer.Exit(1)


def _tell_ids(out: Console, found: Audit) -> None:
    lines = [f"{words(found.loaded)}; {found.stored:,} stored"]
    if found.missing:
        flags = f" ({found.missing_adult:,} adult, {found.missing_video:,} video)"
        lines.append(f"{len(found.missing):,} missing{flags}: {_first(found.missing)}")
    if found.gone:
        lines.append(f"{len(found.gone):,} gone, stored but not on the list: {_first(found.gone)}")
    if found.newer:
        lines.append(f"{found.newer:,} stored since that day, too new for the list")
    if not found.missing and not found.gone:
        lines.append("every movie on the list is stored, none is gone")
    for line in lines:
        out.print(escape(line), soft_wrap=True)


def _first(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - SHOWN_IDS:,} more (--json has all)" if len(ids) > SHOWN_IDS else ""
    return ", ".join(map(str, ids[:SHOWN_IDS])) + more
