"""`reelhaul popular`: fetch the most popular movies."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from producer.cli.options import Quiet
from producer.cli.render import advancing, console
from worker.clients import close_api_client, storage, tmdb_client
from worker.errors import Unstorable
from worker.keys import MAX_PAGE
from worker.retry import ask
from worker.settings import settings


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
