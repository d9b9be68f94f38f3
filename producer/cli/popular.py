"""`reelhaul popular`: fetch the most popular movies."""

from functools import partial
from typing import Annotated

import typer

from producer.cli.options import Quiet
from producer.cli.render import console, progress_bar
from producer.cli.tmdb import checked_tmdb
from worker.clients import storage
from worker.errors import Unstorable
from worker.keys import MAX_PAGE
from worker.retry import ask


def popular(
    pages: Annotated[int, typer.Option(help="Pages of 20 movies.", min=1, max=MAX_PAGE)] = 50,
    quiet: Quiet = False,
) -> None:
    """Fetch the most popular movies."""
    stored = new = 0
    failed: list[str] = []
    with checked_tmdb() as tmdb, progress_bar("pages", pages, quiet=quiet) as advance:
        for number in range(1, pages + 1):
            page = ask(partial(tmdb.popular, number))
            try:
                saved = storage().movies.save_page(f"popular:{number}", page)
            except Unstorable as error:
                failed.append(f"page {number} cannot be stored: {error}")
            else:
                stored, new = stored + len(page.results), new + saved.inserted
            advance()
            if number >= page.total_pages:
                break
    console(quiet=quiet).print(f"{stored:,} movies stored, {new:,} of them new")
    for line in failed:
        console().print(line, markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
