"""`reelhaul movie`: show one movie in full, or search TMDB for a title."""

from typing import Annotated

import typer
from rich.markup import escape

from producer.cli.genre_names import genre_name, known_genres
from producer.cli.movie_facts import print_movie, printable, votes
from producer.cli.options import AsJson
from producer.cli.render import console, plain_table, print_json
from producer.cli.tmdb import checked_tmdb
from worker.clients import storage
from worker.errors import Rejected, UsageError
from worker.keys import LAST_MOVIE, MovieKey
from worker.retry import ask
from worker.settings import settings
from worker.storage.mongo import Document
from worker.tmdb.endpoints import details


def movie(
    wanted: Annotated[str, typer.Argument(help="TMDB's number, or words of a title.", metavar="ID|TITLE")],
    title: Annotated[bool, typer.Option("--title", help="It is a title, even if it is a number.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one movie by its ID, from the stored details or else from TMDB; or search TMDB for a TITLE.

    Nothing is stored. Details older than REELHAUL_RETENTION are requested anew.
    """
    words = wanted.strip()
    if not words:
        raise UsageError("TITLE is empty: expected words of a title")
    try:
        words.encode()
    except UnicodeEncodeError:
        raise UsageError(f"TITLE {wanted!a}: not UTF-8") from None
    if words.isascii() and words.isdecimal() and not title:
        _show(_parse_id(words), as_json=as_json)
    else:
        _search(words, as_json=as_json)


def _parse_id(words: str) -> int:
    # Longer digits than LAST_MOVIE's may be too long for int().
    id_ = int(words) if len(words) <= len(str(LAST_MOVIE)) else 0
    if not 1 <= id_ <= LAST_MOVIE:
        raise UsageError(f"ID {words:.40}: expected 1..{LAST_MOVIE}; for a title, add --title")
    return id_


def _show(id_: int, *, as_json: bool) -> None:
    found = storage().movies.stored_details(id_, storage().mongo.now() - settings().reelhaul_retention)
    if found is None:
        found, source = _requested_details(id_), "from TMDB just now, not stored"
    else:
        meta = found.pop("_meta")
        del found["_id"]
        source = f"details stored on {meta['fetched_at']:%Y-%m-%d %H:%M} UTC"
        if "gone_at" in meta:
            source += f"; gone: TMDB had no such movie on {meta['gone_at']:%Y-%m-%d %H:%M} UTC"
    if as_json:
        print_json(found)
    else:
        print_movie(found, source)


def _requested_details(id_: int) -> Document:
    try:
        with checked_tmdb() as tmdb:
            return ask(lambda deadline: tmdb.get(MovieKey(id_), details, deadline)).movie
    except Rejected as error:
        if not error.not_found:
            raise
    console().print(f"TMDB has no movie {id_}")
    raise typer.Exit(1)


def _search(title: str, *, as_json: bool) -> None:
    with checked_tmdb() as tmdb:
        found = ask(lambda deadline: tmdb.search(title, deadline))
        genres = {} if as_json or not found.results else known_genres(tmdb)
    out = console(quiet=as_json)
    if as_json:
        print_json(found.results)
    if not found.results:
        out.print(f"TMDB finds no movie for {title!r}", markup=False)
        raise typer.Exit(1)
    if as_json:
        return
    table = plain_table("id", "title", "year", "votes", "genres")
    for item in found.results:
        table.add_row(*map(escape, _row(item, genres)))
    out.print(table)
    first = found.results[0]
    overview = printable(first.get("overview") or "no overview")
    out.print(f"\n{printable(first.get('title'))}: {overview}", markup=False)
    if found.total_results > len(found.results):
        out.print(f"{found.total_results:,} movies in all; add words to narrow the search")


def _row(item: Document, genres: dict[int, str]) -> tuple[str, ...]:
    """Id, title, year, votes and genres as text, whatever TMDB sent in their place."""
    ids = item.get("genre_ids")
    known = [id_ for id_ in ids if type(id_) is int] if isinstance(ids, list) else []
    names = ", ".join(genre_name(id_, genres) for id_ in known)
    year = printable(item.get("release_date") or "")[:4]
    return str(item["id"]), printable(item.get("title")), year, votes(item), printable(names)
