"""`reelhaul movie`: search TMDB for a title."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from producer.cli.render import console
from worker.clients import close_api_client, storage, tmdb_client
from worker.errors import UsageError
from worker.retry import ask
from worker.settings import settings
from worker.storage.mongo import Document


def movie(
    words: Annotated[str, typer.Argument(help="Words of a title.", metavar="TITLE")],
    as_json: Annotated[bool, typer.Option("--json", help="TMDB's list items, one JSON array.")] = False,
) -> None:
    """Search TMDB for a title and show what it finds; nothing is stored."""
    if not words.strip():
        raise UsageError("TITLE is empty: expected words of a title")
    if not _is_text(words):
        raise UsageError(f"TITLE {words!a}: not UTF-8")
    settings().require_key()
    names = storage().genres.names()
    ask(tmdb_client().check_key)  # a wrong key found out by any other request stops the fleet
    found = ask(partial(tmdb_client().search, words))
    close_api_client()
    if as_json:
        typer.echo(json.dumps(found.results))
        return
    out = console()
    if not found.results:
        out.print(f"TMDB finds no movie for {words!r}", markup=False)
        raise typer.Exit(1)
    table = Table("id", "title", "year", "votes", "genres", box=None, pad_edge=False)
    for item in found.results:
        table.add_row(*map(escape, _row(item, names)))
    out.print(table)
    first = found.results[0]
    overview = _shown(first.get("overview") or "no overview")
    out.print(f"\n{_shown(first.get('title'))}: {overview}", markup=False)
    if found.total_results > len(found.results):
        out.print(f"{found.total_results:,} movies in all; more words find fewer")


def _row(item: Document, names: dict[int, str]) -> tuple[str, ...]:
    ids = item.get("genre_ids")
    known = [id_ for id_ in ids if type(id_) is int] if isinstance(ids, list) else []
    genres = ", ".join(names.get(id_, str(id_)) for id_ in known)
    average, number = (item.get(name) for name in ("vote_average", "vote_count"))
    votes = f"{average:.1f} ({number:,})" if _is_number(average) and _is_number(number) else ""
    year = _shown(item.get("release_date") or "")[:4]
    return str(item["id"]), _shown(item.get("title")), year, votes, _shown(genres)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _shown(value: Any) -> str:
    """What TMDB says as one line of text, whatever it holds."""
    return "".join(sign if sign.isprintable() else " " for sign in str(value))


def _is_text(words: str) -> bool:
    try:
        return bool(words.encode())
    except UnicodeEncodeError:
        return False
