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
from producer.commands import Detach, MaxAge, Quiet, follow_wanted
from producer.display import advancing, console
from worker.attempts import fetch
from worker.bootstrap import fleet_now, hang_up, id_export, movies, store, tmdb_client
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.merge import Document
from worker.movies import PARTS
from worker.pages import MAX_PAGE
from worker.settings import settings


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
        wanted = missing_ids(store(), id_export())
    else:
        oldest = timedelta(days=36_500) if missing else min(age or retention, retention)
        wanted = movies().lacking_details(now - oldest, parts)
    with advancing("movies looked at", store().count_movies(), quiet=quiet) as on_movie:
        number = movies().want(_each(wanted, on_movie), now, details=True, append=parts)
    console(quiet=quiet).print(f"{number:,} movies to fetch")
    if number:
        follow_wanted(detach=detach, quiet=quiet)


def movie(
    words: Annotated[str, typer.Argument(help="Words of a title.", metavar="TITLE")],
    as_json: Annotated[bool, typer.Option("--json", help="TMDB's list items, one JSON array.")] = False,
) -> None:
    """Search TMDB for a title and show what it finds; nothing is stored."""
    if not words.strip():
        raise UsageError("TITLE is empty: expected words of a title")
    settings().require_key()
    names = store().named_genres()
    found = fetch(partial(tmdb_client().search, words))
    hang_up()
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
    out.print(f"\n{first.get('title')}: {first.get('overview') or 'no overview'}", markup=False)
    if found.total_results > len(found.results):
        out.print(f"{found.total_results:,} movies in all; more words find fewer")


def popular(
    pages: Annotated[int, typer.Option(help="Of 20 movies each.", min=1, max=MAX_PAGE)] = 50,
    quiet: Quiet = False,
) -> None:
    """Fetch the most popular movies of all."""
    settings().require_key()
    stored = new = 0
    with advancing("pages", pages, quiet=quiet) as on_page:
        for number in range(1, pages + 1):
            page = fetch(partial(tmdb_client().popular, number))
            saved = store().save_list(f"popular:{number}", page)
            stored, new = stored + len(page.results), new + saved.inserted
            on_page()
            if number >= page.total_pages:
                break
    hang_up()
    console(quiet=quiet).print(f"{stored:,} movies stored, {new:,} of them new")


def _row(item: Document, names: dict[int, str]) -> tuple[str, ...]:
    genres = ", ".join(names.get(genre_id, str(genre_id)) for genre_id in item.get("genre_ids", []))
    votes = f"{item.get('vote_average', 0):.1f} ({item.get('vote_count', 0):,})"
    return str(item["id"]), str(item.get("title")), str(item.get("release_date", ""))[:4], votes, genres


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
