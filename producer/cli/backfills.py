"""`reelhaul backfills`, `cancel`, `resume`, `forget`: list what was asked for, and steer one of it."""

from typing import Annotated

import typer

from producer.cli.follow import run_request
from producer.cli.options import AsJson, Detach, Quiet, Yes
from producer.cli.render import console, plain_table, print_json
from producer.enqueue import saved_request
from producer.progress import measure_all
from producer.requests.request import Progress
from worker.clients import fleet_now, limiter, storage
from worker.settings import settings

Id = Annotated[str, typer.Argument(metavar="ID", help="As `reelhaul backfills` lists it.")]


def backfills(as_json: AsJson = False) -> None:
    """List everything that was asked for, with its ID: backfills, refreshes, details and all others."""
    found = measure_all(storage())
    if as_json:
        print_json([_row(progress) for progress in found])
        return
    if not found:
        console().print("nothing was requested yet: `reelhaul backfill --help`")
        return
    table = plain_table("id", "requested", "state", "missing", "what", right=[3])
    for progress in found:
        row, what = _row(progress), progress.request.title.partition(": ")[2]
        by = progress.request.schedule_entry
        table.add_row(
            progress.request.id,
            f"{progress.request.requested_at:%Y-%m-%d %H:%M}",
            str(row["state"]),
            f"{progress.missing:,}",
            f"{progress.request.kind}: {what}{f' (schedule entry {by})' if by else ''}",
        )
    console().print(table)


def cancel(request_id: Id, as_json: AsJson = False) -> None:
    """Stop fetching for one request; what is stored stays, `reelhaul resume` continues."""
    request = saved_request(storage(), request_id)
    storage().requests.cancel(request.id, fleet_now())
    limiter().announce_cancelled()
    if as_json:
        print_json({"id": request.id, "state": "cancelled"})
        return
    again = f"; `{request.schedule_entry}` will ask again" if request.schedule_entry else ""
    console().print(
        f"{request.title}: cancelled, its messages are dropped; "
        f"`reelhaul resume {request.id}` continues it{again}",
        soft_wrap=True,
    )


def resume(request_id: Id, detach: Detach = False, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Continue a request that was cancelled, and follow it."""
    request = saved_request(storage(), request_id)
    settings().require_key()
    run_request(request, detach=detach, quiet=quiet, as_json=as_json)


def forget(request_id: Id, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove one request from the list, and nothing that was fetched for it; its messages are dropped."""
    request = saved_request(storage(), request_id)
    if not yes:
        typer.confirm(f"Forget {request.title}? What is stored stays", abort=True)
    storage().requests.forget(request.id)
    limiter().announce_cancelled()
    if as_json:
        print_json({"id": request.id, "state": "forgotten"})
        return
    console().print(f"{request.title}: forgotten; what is stored stays", soft_wrap=True)


def _row(progress: Progress) -> dict[str, object]:
    """For JSON."""
    state = "cancelled" if progress.cancelled else "unfinished" if progress.missing else "finished"
    return {
        "id": progress.request.id,
        "kind": progress.request.kind,
        "title": progress.request.title,
        "schedule_entry": progress.request.schedule_entry,
        "requested_at": progress.request.requested_at.isoformat(),
        "state": state,
        "missing": progress.missing,
        "quarantined": progress.quarantined,
    }
