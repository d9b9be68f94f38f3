"""`reelhaul movie`: search TMDB for a title."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from producer.cli.options import AsJson
from producer.cli.render import console, plain_table, print_json
from producer.cli.tmdb import checked_tmdb
from worker.clients import storage
from worker.errors import UsageError
from worker.retry import ask
from worker.storage.mongo import Document


def movie(
    title: Annotated[str, typer.Argument(help="Words of a title.", metavar="TITLE")],
    as_json: AsJson = False,
) -> None:
    """Search TMDB for a title and show what it finds; nothing is stored."""
    if not title.strip():
        raise UsageError("TITLE is empty: expected words of a title")
    try:
        title.encode()
    except UnicodeEncodeError:
        raise UsageError(f"TITLE {title!a}: not UTF-8") from None
    with checked_tmdb() as tmdb:
        found = ask(lambda deadline: tmdb.search(title, deadline))
    if as_json:
        print_json(found.results)
        return
    out = console()
    if not found.results:
        out.print(f"TMDB finds no movie for {title!r}", markup=False)
        raise typer.Exit(1)
    genres = storage().genres.names()
    table = plain_table("id", "title", "year", "votes", "genres")
    for item in found.results:
        table.add_row(*map(escape, _row(item, genres)))
    out.print(table)
    first = found.results[0]
    overview = _printable(first.get("overview") or "no overview")
    out.print(f"\n{_printable(first.get('title'))}: {overview}", markup=False)
    if found.total_results > len(found.results):
        out.print(f"{found.total_results:,} movies in all; add words to narrow the search")


def _row(item: Document, genres: dict[int, str]) -> tuple[str, ...]:
    """Id, title, year, votes and genres as text, whatever TMDB sent in their place."""
    ids = item.get("genre_ids")
    known = [id_ for id_ in ids if type(id_) is int] if isinstance(ids, list) else []
    names = ", ".join(genres.get(id_, str(id_)) for id_ in known)
    average, number = (item.get(name) for name in ("vote_average", "vote_count"))
    votes = f"{average:.1f} ({number:,})" if _is_number(average) and _is_number(number) else ""
    year = _printable(item.get("release_date") or "")[:4]
    return str(item["id"]), _printable(item.get("title")), year, votes, _printable(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _printable(value: Any) -> str:
    """The value as one line of text: control characters become spaces."""
    return "".join(sign if sign.isprintable() else " " for sign in str(value))
