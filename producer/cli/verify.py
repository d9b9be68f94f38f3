"""`reelhaul verify`: prove that nothing is missing, or show what is; fetch unproven cells again."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from producer.audit import Audit, as_dict, audit, describe
from producer.cli.certificate import check_certificate, write_certificate
from producer.cli.options import AsJson, Quiet
from producer.cli.render import console, counted, print_json, progress_bar
from producer.cli.sample import check_hashes, check_sample
from producer.completeness import REPAIRED, CellCheck, Reason, check_cells
from producer.enqueue import all_backfills, all_requests
from producer.queues import enqueue
from producer.requests.backfills import Backfill
from worker.clients import fleet_now, storage
from worker.errors import UsageError
from worker.keys import Cell, Fetch

#: Ids of missing or gone movies that a line shows.
SHOWN_IDS = 20
#: Cells that get a line each.
SHOWN_CELLS = 40
#: How many times --repair asks for a cell until it was proven in between.
REPAIRS = 3
_REPAIR = "`reelhaul verify --repair`"
#: What is wrong with such cells, and what to do.
_ADVICE = {
    Reason.MISSING: "with pages missing (`reelhaul backfill` again)",
    Reason.QUARANTINED: "with pages in quarantine (`reelhaul failures`)",
    Reason.TOO_LARGE: "with a day of more movies than TMDB shows (`reelhaul details --from-ids`)",
    Reason.UNREADABLE: f"with records that cannot be read ({_REPAIR})",
    Reason.CHANGING: "that changed while they were read (verify again)",
    Reason.OLDER: f"with pages older than their page 1 ({_REPAIR})",
    Reason.TOTALS: f"whose pages state different totals ({_REPAIR})",
    Reason.SHORT: f"short of movies ({_REPAIR})",
    Reason.LOST: f"with movies that are not stored ({_REPAIR})",
    Reason.SURPLUS: f"with more movies than TMDB says ({_REPAIR})",
}


def verify(  # noqa: PLR0913, PLR0917 -- a command's options
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch unproven cells again; with --hashes damaged movies.")
    ] = False,
    by_ids: Annotated[
        bool,
        typer.Option(
            "--ids", help="Compare with TMDB's daily id export; first load it: `reelhaul ids load`."
        ),
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(help="Write hashes of all that is stored, for others.", metavar="FILE.json")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare what is stored with a certificate.", metavar="FILE.json")
    ] = None,
    exported: Annotated[
        Path | None,
        typer.Option("--export", help="With --against: compare an export instead.", metavar="FILE.jsonl"),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Fetch N random pages again and compare them.", metavar="N", min=1)
    ] = None,
    hashes: Annotated[
        bool, typer.Option("--hashes", help="Is every stored document still what was saved?")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Prove that nothing is missing: exit 0 when every page is stored and every cell holds all its movies."""
    chosen = {
        "--repair": repair, "--ids": by_ids, "--certificate": certificate, "--against": against,
        "--sample": sample, "--hashes": hashes,
    }  # fmt: skip
    names = [name for name, value in chosen.items() if value]
    if len(names) > 1 and names != ["--repair", "--hashes"]:
        raise UsageError(f"{' and '.join(names)} are checks of their own: use one of them")
    if exported and not against:
        raise UsageError("--export is compared with a certificate: add --against FILE.json")
    if by_ids:
        _verify_ids(as_json=as_json, quiet=quiet)
    elif against:
        check_certificate(against, exported, as_json=as_json, quiet=quiet)
    elif sample:
        check_sample(sample, as_json=as_json, quiet=quiet)
    elif hashes:
        check_hashes(repair=repair, as_json=as_json, quiet=quiet)
    else:
        _verify_cells(repair=repair, certificate=certificate, as_json=as_json, quiet=quiet)


def _verify_cells(*, repair: bool, certificate: Path | None, as_json: bool, quiet: bool) -> None:
    backfills = all_backfills(storage())
    cancelled = sum(type(one) is Backfill for one in all_requests(storage())) - len(backfills)
    if not backfills:
        raise UsageError(
            "nothing was requested yet, or all of it was cancelled, so there is nothing to prove: "
            "`reelhaul backfill --help`"
        )
    cells = list(dict.fromkeys(cell for backfill in backfills for cell in backfill.cells()))
    if certificate:
        write_certificate(certificate, cells, as_json=as_json, quiet=quiet)
        return
    with progress_bar("pages", storage().pages.count(), quiet=quiet or as_json) as advance:
        gaps = [check for check in check_cells(storage(), cells, advance) if check.problem]
    if as_json:
        missing = sum(gap.pages_missing for gap in gaps)
        out_of_reach = sum(gap.unreachable for gap in gaps)
        rows = [_row(gap) for gap in gaps]
        found = {"cells": len(cells), "pages_missing": missing, "unreachable": out_of_reach}
        print_json({**found, "cancelled": cancelled, "gaps": rows})
    else:
        _print_gaps(console(quiet=quiet), len(cells), gaps)
        if cancelled:
            console(quiet=quiet).print(f"left out: {counted(cancelled, 'cancelled backfill')}")
    if repair:
        _repair(
            [gap.cell for gap in gaps if gap.problem and gap.problem.reason in REPAIRED], quiet or as_json
        )
    if gaps:
        raise typer.Exit(1)


def _repair(cells: Sequence[Cell], quiet: bool) -> None:
    """Enqueue page 1 of these cells, which all their other pages follow; of each cell a few times at most."""
    again = [cell for cell in cells if storage().pages.begin_repair(cell, REPAIRS)]
    out = console(quiet=quiet)
    if again:
        enqueue((Fetch(cell.page(1), fleet_now()) for cell in again), "refresh")
        out.print(f"{counted(len(again), 'cell')} enqueued to be fetched again; verify once they are")
    if given_up := len(cells) - len(again):
        out.print(
            f"{counted(given_up, 'cell')} not proven after {REPAIRS} repairs, and not enqueued again: what "
            "TMDB shows does not fit its totals. `reelhaul refresh` fetches them again",
            soft_wrap=True,
        )


def _row(gap: CellCheck) -> dict[str, Any]:
    row = {"cell": gap.cell.id, "found": gap.found, "expected": gap.expected, "unreachable": gap.unreachable}
    if gap.problem:
        row |= {"reason": gap.problem.reason, "text": gap.problem.text}
    return row | {"quarantined": [key.id for key in gap.quarantined]}


def _print_gaps(out: Console, cells: int, gaps: list[CellCheck]) -> None:
    if not gaps:
        out.print(f"{cells:,} cells: every page stored, every cell holds all the movies TMDB says it has")
        return
    problems = [(gap.cell, gap.problem) for gap in gaps if gap.problem]
    by_reason = sorted(problems, key=lambda one: list(Reason).index(one[1].reason))
    for cell, problem in by_reason[:SHOWN_CELLS]:
        out.print(f"{cell.id}: {problem.text}", soft_wrap=True)
    if len(problems) > SHOWN_CELLS:
        out.print(f"and {len(problems) - SHOWN_CELLS:,} more cells (--json has all)")
    reasons = Counter(problem.reason for _, problem in problems)
    out.print(
        f"{len(gaps):,} of {cells:,} cells not proven: "
        + "; ".join(f"{number:,} {_ADVICE[reason]}" for reason, number in reasons.items()),
        soft_wrap=True,
    )


def _verify_ids(*, as_json: bool, quiet: bool) -> None:
    with progress_bar("movies", storage().movies.count(), quiet=quiet or as_json) as advance:
        found = audit(storage(), advance)
    if as_json:
        print_json(
            {
                "list": as_dict(found.loaded),
                "stored": found.stored,
                "missing": found.missing.tolist(),
                "missing_adult": found.missing_adult,
                "missing_video": found.missing_video,
                "gone": found.gone.tolist(),
                "newer": found.newer,
            }
        )
    else:
        _print_audit(console(quiet=quiet), found)
    if found.missing or found.gone:
        raise typer.Exit(1)


def _print_audit(out: Console, found: Audit) -> None:
    lines = [f"{describe(found.loaded)}; {found.stored:,} stored"]
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
