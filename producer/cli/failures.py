"""`reelhaul failures`: the quarantine, shown and worked off by hand."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from producer.cli.render import console
from worker.clients import storage
from worker.errors import UsageError
from worker.keys import MovieKey, PageKey, parse_key
from worker.movie_tasks import enqueue_movies
from worker.storage.mongo import Document
from worker.tasks import enqueue_pages

failures = typer.Typer(
    add_completion=False, invoke_without_command=True, help="Pages in quarantine: list, show, retry, purge."
)

ByClass = Annotated[str | None, typer.Option("--class", help="Only this class.", metavar="CLASS")]
ByKey = Annotated[
    str | None, typer.Option("--key", help="Only this one.", metavar="GENRE:WINDOW:PAGE|movie:ID")
]
#: A terminal's worth of a body.
SHOWN_BODY = 2_000


@failures.callback()
def overview(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, without the bodies.")] = False,
) -> None:
    """List what is in quarantine, unless a subcommand follows."""
    if context.invoked_subcommand:
        return
    found = storage().failures.quarantined()
    if as_json:
        typer.echo(json.dumps([_plain(failure) for failure in found.values()]))
        return
    out = console()
    if not found:
        out.print("nothing is in quarantine")
        return
    counts = Counter(failure["class"] for failure in found.values())
    out.print(", ".join(f"{number:,} {name}" for name, number in counts.most_common()))
    table = Table("page", "class", "status", "attempts", "last", "reason", box=None, pad_edge=False)
    for key, failure in found.items():
        last = f"{failure['last_at']:%Y-%m-%d %H:%M}"
        words = (key.id, failure["class"], str(failure["status"]), str(failure["attempts"]), last)
        table.add_row(*words, escape(failure["reason"]))
    out.print(table)


@failures.command()
def show(key: Annotated[str, typer.Argument(help="For instance 18:1999:3 or movie:603.")]) -> None:
    """The answer that put a page into quarantine."""
    failure = storage().failures.get(parse_key(key))
    if failure is None:
        raise UsageError(f"{key} is not in quarantine; `reelhaul failures` lists what is")
    out = console()
    for name in ("class", "reason", "status", "attempts", "first_at", "last_at"):
        out.print(f"{name}: {escape(str(failure[name]))}", soft_wrap=True)
    for name, value in failure["headers"].items():
        out.print(f"  {escape(name)}: {escape(value)}", soft_wrap=True)
    out.print(escape(failure["body"].decode("utf-8", "backslashreplace")[:SHOWN_BODY]), soft_wrap=True)


@failures.command()
def retry(by_class: ByClass = None, key: ByKey = None) -> None:
    """Enqueue pages again and take them out of quarantine."""
    chosen = _chosen(by_class, key)
    # Sent first: what is sent twice is fetched once, what is released and not sent would wait for the sweep.
    for one, failure in chosen.items():
        if isinstance(one, PageKey):
            enqueue_pages([one], int(failure["last_at"].timestamp() * 1000), "refresh")
        else:
            storage().movie_requests.add([one.movie_id], failure["last_at"])
            enqueue_movies([one], "refresh")
    storage().failures.release(chosen)
    console().print(f"{len(chosen):,} enqueued")


@failures.command()
def purge(
    by_class: ByClass = None,
    key: ByKey = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget failures and their answers; what a backfill still lacks is fetched again by its next sweep."""
    chosen = _chosen(by_class, key)
    if chosen and not yes:
        typer.confirm(f"Forget {len(chosen):,} failures with their answers?", abort=True)
    storage().failures.release(chosen)
    console().print(f"{len(chosen):,} failures forgotten")


def _chosen(by_class: str | None, key: str | None) -> dict[PageKey | MovieKey, Document]:
    found = storage().failures.quarantined()
    if key is not None:
        page = parse_key(key)
        if page not in found:
            raise UsageError(f"{key} is not in quarantine; `reelhaul failures` lists what is")
        found = {page: found[page]}
    if by_class is not None:
        classes = sorted({failure["class"] for failure in found.values()})
        if by_class not in classes:
            raise UsageError(
                f"--class {by_class!r}: expected one of {', '.join(classes) or '(quarantine is empty)'}"
            )
        found = {page: failure for page, failure in found.items() if failure["class"] == by_class}
    return found


def _plain(failure: Document) -> dict[str, Any]:
    return {name: value.isoformat() if name.endswith("_at") else value for name, value in failure.items()}
