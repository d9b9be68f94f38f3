"""The commands on single movies: their details, a search, the popular ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from producer.audit import missing_ids
from producer.cli.backfill import Detach, MaxAge, Quiet, follow_wanted
from producer.cli.render import advancing, console
from producer.schedule.tasks import feed
from worker.clients import close_api_client, fleet_now, limiter, storage, tmdb_client
from worker.durations import parse_duration
from worker.errors import Unstorable, UsageError
from worker.keys import MAX_PAGE
from worker.queues import lengths
from worker.retry import ask
from worker.settings import settings
from worker.storage.mongo import Document
from worker.storage.movies import PARTS


def details(  # noqa: PLR0913, PLR0917 -- a command's options
    missing: Annotated[
        bool, typer.Option("--missing", help="Only movies that have no details at all, however old.")
    ] = False,
    append: Annotated[
        str | None, typer.Option(help="Parts to ask for as well: credits,keywords", metavar="PART,...")
    ] = None,
    from_ids: Annotated[
        bool, typer.Option("--from-ids", help="Movies of the loaded id export that are not stored.")
    ] = False,
    max_age: MaxAge = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the details of the stored movies, where they are missing or older than --max-age."""
    parts = _parts(append)
    age = parse_duration(max_age, "--max-age") if max_age else None
    if missing and age is not None:
        raise UsageError("--missing takes details of any age for done; leave --max-age out")
    if from_ids and (missing or age is not None):
        raise UsageError("--from-ids takes movies that are not stored; leave --missing and --max-age out")
    settings().require_key()
    now, retention = fleet_now(), settings().reelhaul_retention
    wanted: Iterable[int]
    if from_ids:
        wanted = missing_ids(storage(), storage().id_export)
    else:
        oldest = timedelta(days=36_500) if missing else retention if age is None else min(age, retention)
        wanted = storage().movies.without_details(now - oldest, parts)
    with advancing("movies looked at", storage().movies.count(), quiet=quiet) as on_movie:
        number = storage().movie_requests.add(_each(wanted, on_movie), now, details=True, append=parts)
    console(quiet=quiet).print(f"{number:,} movies to fetch")
    if number:
        if limiter().state().stopped:
            ask(tmdb_client().check_key)
            close_api_client()
        if detach:
            feed(lengths())
        follow_wanted(detach=detach, quiet=quiet)


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


def popular(
    pages: Annotated[int, typer.Option(help="Of 20 movies each.", min=1, max=MAX_PAGE)] = 50,
    quiet: Quiet = False,
) -> None:
    """Fetch the most popular movies of all."""
    settings().require_key()
    ask(tmdb_client().check_key)  # as above
    stored = new = 0
    lost: list[str] = []
    with advancing("pages", pages, quiet=quiet) as on_page:
        for number in range(1, pages + 1):
            page = ask(partial(tmdb_client().popular, number))
            try:
                saved = storage().movies.save_page(f"popular:{number}", page)
            except Unstorable as trouble:
                lost.append(f"page {number} cannot be stored: {trouble}")
            else:
                stored, new = stored + len(page.results), new + saved.inserted
            on_page()
            if number >= page.total_pages:
                break
    close_api_client()
    console(quiet=quiet).print(f"{stored:,} movies stored, {new:,} of them new")
    for line in lost:
        console().print(line, markup=False, soft_wrap=True)
    if lost:
        raise typer.Exit(1)


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


def _parts(append: str | None) -> list[str]:
    parts = sorted({part.strip() for part in append.split(",")}) if append is not None else []
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"--append: unknown part {part!r}; expected some of {', '.join(PARTS)}")
    return parts


def _each(ids: Iterable[int], on_movie: Any) -> Iterator[int]:
    for id_ in ids:
        on_movie()
        yield id_
