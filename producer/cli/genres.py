"""`reelhaul genres`: how many stored movies each genre has, and how often two occur together."""

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
from producer.cli.genre_names import genre_name, known_genres
from producer.cli.options import AsJson, Quiet, png_extra
from producer.cli.render import console, plain_table, print_json, progress_bar
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
    """Count movies, each given by its list of genre ids; a repeated id counts once.

    Whatever else TMDB sent in the place of ids is ignored.
    """
    counts = Tally()
    for ids in genre_ids:
        distinct = sorted({id_ for id_ in ids if type(id_) is int}) if isinstance(ids, list) else []
        counts.movies += 1
        counts.without += not distinct
        counts.single.update(distinct)
        counts.pairs.update(combinations(distinct, 2))
        on_movie()
    return counts


def genres(
    pairs: Annotated[bool, typer.Option("--pairs", help="How often two genres occur together.")] = False,
    png: Annotated[
        Path | None, typer.Option(help="Write the pairs as a heat map, PNG.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the genres, how many stored movies each has, and which occur together."""
    if png:
        _genre_pairs_png()  # of an extra: say so before anything is asked for
    names = known_genres()
    with progress_bar("movies", storage().movies.count(), quiet=quiet or as_json) as advance:
        counts = tally(storage().movies.each_genre_ids(), advance)
    if not counts.movies and not names:
        raise UsageError("nothing is stored yet: `reelhaul backfill --help`")
    if png and not counts.movies:
        raise UsageError(
            "--png: no movie is stored yet, so there is nothing to draw: `reelhaul backfill --help`"
        )
    names |= {id_: genre_name(id_, names) for id_ in counts.single}
    if png:
        write_pairs_png(counts, names, png)
    if as_json:
        print_json(_figures(counts, names))
    elif not png:
        console(quiet=quiet).print(_pairs_table(counts, names) if pairs else _table(counts, names))


def write_pairs_png(counts: Tally, names: dict[int, str], target: Path) -> None:
    """Write the heat map of pairs; UsageError without matplotlib, or when the file cannot be written."""
    draw = _genre_pairs_png()
    order = sorted(names, key=lambda id_: names[id_])
    matrix = [[counts.pairs[min(a, b), max(a, b)] if a != b else 0 for b in order] for a in order]
    shares = [
        [count / max(1, counts.single[id_]) for count in row] for id_, row in zip(order, matrix, strict=True)
    ]
    write(target, draw([names[id_] for id_ in order], shares, matrix))


def _genre_pairs_png() -> Callable[..., bytes]:
    with png_extra():
        from producer.charts.png import genre_pairs_png  # noqa: PLC0415 -- of an extra, and slow
    return genre_pairs_png


def _table(counts: Tally, names: dict[int, str]) -> Table:
    table = plain_table("genre", "id", "movies", "share", right=range(1, 4))
    for id_ in sorted(names, key=lambda id_: (-counts.single[id_], names[id_])):
        share = counts.single[id_] / max(1, counts.movies)
        table.add_row(escape(names[id_]), str(id_), f"{counts.single[id_]:,}", f"{share:.1%}")
    table.add_row("none", "", f"{counts.without:,}", f"{counts.without / max(1, counts.movies):.1%}")
    return table


def _pairs_table(counts: Tally, names: dict[int, str]) -> Table:
    table = plain_table("genre", "with", "movies", "of the rarer", right=range(2, 4))
    for (one, other), number in counts.pairs.most_common(SHOWN):
        rarer = min(counts.single[one], counts.single[other])
        table.add_row(escape(names[one]), escape(names[other]), f"{number:,}", f"{number / rarer:.1%}")
    return table


def _figures(counts: Tally, names: dict[int, str]) -> dict[str, object]:
    return {
        "movies": counts.movies,
        "without": counts.without,
        "genres": [{"id": id_, "name": names[id_], "movies": counts.single[id_]} for id_ in names],
        "pairs": [
            {"genres": [names[one], names[other]], "movies": number}
            for (one, other), number in counts.pairs.most_common()
        ],
    }
