"""`reelhaul failures`: show the quarantine, retry or delete what is in it."""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.markup import escape

from producer.cli.options import AsJson, Yes, command_group
from producer.cli.render import console, counted, plain_table, print_json
from producer.queues import enqueue
from worker.clients import storage
from worker.errors import UsageError
from worker.keys import Fetch, Key, parse_key
from worker.storage.mongo import Document

failures = command_group("Pages in quarantine: list, show, retry, purge.")

ByClass = Annotated[str | None, typer.Option("--class", help="Only this class.", metavar="CLASS")]
ByKey = Annotated[
    str | None,
    typer.Option("--key", help="Only this one, for instance 18:1999:3 or movie:603.", metavar="KEY"),
]
#: Characters of a response's body that are shown.
SHOWN_BODY = 2_000


@failures.callback()
def overview(context: typer.Context, as_json: AsJson = False) -> None:
    """List what is in quarantine, unless a subcommand follows; `show` has the responses."""
    if context.invoked_subcommand:
        return
    found = storage().failures.quarantined()
    if as_json:
        print_json([_for_json(failure) for failure in found.values()])
        return
    out = console()
    if not found:
        out.print("nothing is in quarantine")
        return
    counts = Counter(failure["class"] for failure in found.values())
    out.print(", ".join(f"{number:,} {name}" for name, number in counts.most_common()))
    table = plain_table("page", "class", "status", "attempts", "last", "reason")
    for key, failure in found.items():
        last = f"{failure['last_at']:%Y-%m-%d %H:%M}"
        row = (key.id, failure["class"], str(failure["status"]), str(failure["attempts"]), last)
        table.add_row(*row, escape(failure["reason"]))
    out.print(table)


@failures.command()
def show(
    key: Annotated[str, typer.Argument(help="For instance 18:1999:3 or movie:603.")], as_json: AsJson = False
) -> None:
    """Show the response that put a page into quarantine."""
    failure = storage().failures.get(parse_key(key))
    if failure is None:
        raise _not_in_quarantine(key)
    body = failure["body"].decode("utf-8", "backslashreplace")
    if as_json:
        print_json(_for_json(failure) | {"body": body})
        return
    out = console()
    for name in ("class", "reason", "status", "attempts", "first_at", "last_at"):
        out.print(f"{name}: {escape(str(failure[name]))}", soft_wrap=True)
    for name, value in failure["headers"].items():
        out.print(f"  {escape(name)}: {escape(value)}", soft_wrap=True)
    out.print(escape(body[:SHOWN_BODY]), soft_wrap=True)


@failures.command()
def retry(by_class: ByClass = None, key: ByKey = None, as_json: AsJson = False) -> None:
    """Enqueue pages again and take them out of quarantine."""
    selected = _selected(by_class, key)
    # Enqueue before the release: a page sent twice is fetched once, one released but not sent waits for the
    # sweep.
    enqueue(
        (Fetch(one, failure["last_at"], tuple(failure["options"])) for one, failure in selected.items()),
        "refresh",
    )
    storage().failures.release(selected)
    if as_json:
        print_json({"enqueued": len(selected)})
    else:
        console().print(f"{len(selected):,} enqueued")


@failures.command()
def purge(by_class: ByClass = None, key: ByKey = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete failures and their responses; the sweep fetches again what a backfill then lacks."""
    selected = _selected(by_class, key)
    failed = counted(len(selected), "failure")
    if selected and not yes:
        typer.confirm(f"Delete {failed} and the responses?", abort=True, err=as_json)
    storage().failures.release(selected)
    if as_json:
        print_json({"deleted": len(selected)})
    else:
        console().print(f"{failed} deleted")


def _selected(by_class: str | None, key: str | None) -> dict[Key, Document]:
    found = storage().failures.quarantined()
    if key is not None:
        page = parse_key(key)
        if page not in found:
            raise _not_in_quarantine(key)
        found = {page: found[page]}
    if by_class is not None:
        classes = sorted({failure["class"] for failure in found.values()})
        if by_class not in classes:
            raise UsageError(
                f"--class {by_class!r}: expected one of {', '.join(classes) or '(quarantine is empty)'}"
            )
        found = {page: failure for page, failure in found.items() if failure["class"] == by_class}
    return found


def _not_in_quarantine(key: str) -> UsageError:
    return UsageError(f"{key} is not in quarantine; `reelhaul failures` lists what is")


def _for_json(failure: Document) -> dict[str, Any]:
    """For JSON: dates as text."""
    return {name: value.isoformat() if name.endswith("_at") else value for name, value in failure.items()}
