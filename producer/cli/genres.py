"""`reelhaul genres`: how many stored movies each genre has, and how often two stand together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from producer.charts.coverage_html import write
from producer.cli.render import advancing, console
from worker.clients import storage
from worker.errors import UsageError

#: Pairs in the table; --json has all.
SHOWN = 20


@dataclass
class Tally:
    """Movies by genre id and by pair of genre ids, the smaller one first."""

    movies: int = 0
    without: int = 0
    single: Counter[int] = field(default_factory=Counter)
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)


def tally(genre_ids: Iterable[Any], on_movie: Callable[[], None] = lambda: None) -> Tally:
    """Count movies, each given by its genres; a genre that stands twice in one movie counts once.

    What TMDB may have sent in the place of ids counts for nothing.
    """
    counted = Tally()
    for ids in genre_ids:
        distinct = sorted({id_ for id_ in ids if type(id_) is int}) if isinstance(ids, list) else []
        counted.movies += 1
        counted.without += not distinct
        counted.single.update(distinct)
        counted.pairs.update(combinations(distinct, 2))
        on_movie()
    return counted


def genres(
    pairs: Annotated[bool, typer.Option("--pairs", help="How often two genres stand together.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the pairs as a heat map.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """List the genres, how many stored movies each has, and which stand together."""
    names = storage().genres.names()
    with advancing("movies", storage().movies.count(), quiet=quiet or as_json) as on_movie:
        counted = tally(storage().movies.each_genre_ids(), on_movie)
    if not counted.movies and not names:
        raise UsageError("nothing is stored yet: `reelhaul backfill --help`")
    names = names | {id_: f"genre {id_}" for id_ in counted.single if id_ not in names}
    if png:
        draw_pairs(counted, names, png)
    if as_json:
        typer.echo(json.dumps(_figures(counted, names)))
    elif not png:
        console(quiet=quiet).print(_pairs_table(counted, names) if pairs else _table(counted, names))


def _table(counted: Tally, names: dict[int, str]) -> Table:
    table = Table("genre", "id", "movies", "share", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for id_ in sorted(names, key=lambda id_: (-counted.single[id_], names[id_])):
        share = counted.single[id_] / counted.movies if counted.movies else 0
        table.add_row(escape(names[id_]), str(id_), f"{counted.single[id_]:,}", f"{share:.1%}")
    table.add_row("none", "", f"{counted.without:,}", f"{counted.without / max(1, counted.movies):.1%}")
    return table


def _pairs_table(counted: Tally, names: dict[int, str]) -> Table:
    table = Table("genre", "with", "movies", "of the rarer", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for (one, other), number in counted.pairs.most_common(SHOWN):
        rarer = min(counted.single[one], counted.single[other])
        table.add_row(escape(names[one]), escape(names[other]), f"{number:,}", f"{number / rarer:.1%}")
    return table


def _figures(counted: Tally, names: dict[int, str]) -> dict[str, object]:
    return {
        "movies": counted.movies,
        "without": counted.without,
        "genres": [{"id": id_, "name": names[id_], "movies": counted.single[id_]} for id_ in names],
        "pairs": [
            {"genres": [names[one], names[other]], "movies": number}
            for (one, other), number in counted.pairs.most_common()
        ],
    }


def draw_pairs(counted: Tally, names: dict[int, str], target: Path) -> None:
    """Write the heat map of pairs; UsageError without matplotlib, or when it cannot be written."""
    try:
        from producer.charts.genre_pairs_png import draw  # noqa: PLC0415 -- of an extra, and slow
    except ImportError:
        raise UsageError("--png needs matplotlib: pip install 'reelhaul[pictures]'") from None
    order = sorted(names, key=lambda id_: names[id_])
    counts = [[counted.pairs[min(a, b), max(a, b)] if a != b else 0 for b in order] for a in order]
    shares = [
        [count / max(1, counted.single[id_]) for count in row] for id_, row in zip(order, counts, strict=True)
    ]
    write(target, draw([names[id_] for id_ in order], shares, counts))
