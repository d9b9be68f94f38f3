"""A picture of what is stored: genres by years, in each cell the share of its pages. Here as HTML."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path

from producer.coverage import Coverage
from producer.progress import Progress
from worker.errors import UsageError
from worker.keys import Cell

#: Viridis in six steps, dark to light: told apart with every kind of colour vision, and in grey.
VIRIDIS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")
#: Cells nothing is known of: on no scale, and hatched.
UNKNOWN, HATCH = "#e4e4e4", "#9a9a9a"
LOST = "#d81b60"
#: Pixels: a cell is as wide as the years let it be on a screen of 1280.
WIDEST, NARROWEST, HEIGHT, SCREEN = 40, 8, 20, 1080
LABELS, TOP = 150, 46


@dataclass(frozen=True)
class Grid:
    """Coverage by genre (rows, by name) and year (columns, ascending)."""

    genres: Mapping[int, str]
    years: tuple[int, ...]
    cells: Mapping[Cell, Coverage]

    def at(self, genre_id: int, year: int) -> Coverage | None:
        """None when nobody asked for the cell."""
        return self.cells.get(Cell(genre_id, str(year)))

    def total(self) -> Coverage:
        total = Coverage()
        for part in self.cells.values():
            total.add(part)
        return total


def grid(everything: Iterable[Progress]) -> Grid:
    """All cells that were ever asked for, as the latest backfill with each sees it."""
    genres: dict[int, str] = {}
    cells: dict[Cell, Coverage] = {}
    for progress in everything:
        genres = {**progress.backfill.genres, **genres}
        cells = {**progress.by_cell, **cells}
    if not cells:
        raise UsageError("nothing to draw: nothing was asked for yet")
    years = [int(cell.window) for cell in cells]
    by_name = dict(sorted(genres.items(), key=lambda genre: genre[1]))
    return Grid(by_name, tuple(range(min(years), max(years) + 1)), cells)


def share(part: Coverage) -> float | None:
    """Of the cell's pages, how many are stored; None while its length is not known."""
    return part.stored / part.planned if part.opened else None


def words(genre: str, year: int, part: Coverage) -> str:
    """What a cell tells when it is pointed at."""
    lost = f", {part.quarantined:,} in quarantine" if part.quarantined else ""
    if not part.opened:
        return f"{genre} {year}: not fetched yet{lost}"
    stored = f"{part.stored:,} of {part.planned:,} pages stored"
    return f"{genre} {year}: {stored}, {part.missing:,} missing{lost}"


def headline(whole: Grid) -> str:
    total = whole.total()
    lost = f", {total.quarantined:,} in quarantine" if total.quarantined else ""
    opened = f"{total.opened:,} of {total.cells:,} cells open"
    return f"{total.stored:,} of {total.planned:,} known pages stored, {opened}{lost}"


def write_html(whole: Grid, target: Path) -> None:
    """One file that needs no network. UsageError when it cannot be written."""
    write(target, html(whole).encode())


def html(whole: Grid) -> str:
    """The page: an SVG whose cells tell their counts when pointed at."""
    step = max(NARROWEST, min(WIDEST, SCREEN // len(whole.years)))
    width, height = LABELS + step * len(whole.years) + 20, TOP + HEIGHT * len(whole.genres) + 10
    parts = [_column(number, year, step) for number, year in enumerate(whole.years)]
    for row, (genre_id, name) in enumerate(whole.genres.items()):
        y = TOP + row * HEIGHT
        parts.append(f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        for column, year in enumerate(whole.years):
            part = whole.at(genre_id, year)
            if part is not None:
                corner = (LABELS + column * step, y)
                parts.append(_cell(words(name, year, part), part, corner, step))
    return PAGE.format(
        headline=escape(headline(whole)),
        width=width,
        height=height,
        cells="\n".join(filter(None, parts)),
        scale=", ".join(VIRIDIS),
        unknown=UNKNOWN,
        hatch=HATCH,
        lost=LOST,
    )


def marked(year: int, columns: int) -> bool:
    """Whether a column has room for its year: of many, each fifth or tenth."""
    return year % (1 if columns <= 15 else 5 if columns <= 60 else 10) == 0


def _column(number: int, year: int, step: int) -> str:
    if step < WIDEST and not marked(year, SCREEN // step):
        return ""
    x = LABELS + number * step + step / 2
    return f'<text x="{x:g}" y="{TOP - 8}" text-anchor="middle">{year}</text>'


def _cell(told: str, part: Coverage, corner: tuple[int, int], step: int) -> str:
    done, (x, y) = share(part), corner
    fill = "url(#unknown)" if done is None else _colour(done)
    dot = f'<circle cx="{x + step / 2:g}" cy="{y + HEIGHT / 2:g}" r="2.5"/>' if part.quarantined else ""
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x}" y="{y}" width="{step - 1}" height="{HEIGHT - 1}" fill="{fill}"/>{dot}</g>'
    )


def _colour(done: float) -> str:
    """Between the two nearest steps of the scale."""
    place = min(max(done, 0.0), 1.0) * (len(VIRIDIS) - 1)
    low = min(int(place), len(VIRIDIS) - 2)
    ends = [[int(VIRIDIS[index][at : at + 2], 16) for at in (1, 3, 5)] for index in (low, low + 1)]
    mixed = (round(a + (b - a) * (place - low)) for a, b in zip(*ends, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


def write(target: Path, content: bytes) -> None:
    """The whole file or none; UsageError when it cannot be written."""
    partial = _partial(target)
    try:
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # where it could not be made, it may not be looked for either
            partial.unlink()


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Reelhaul: coverage</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 24px; color: #222; background: #fff; }}
svg {{ font-size: 12px; fill: #222; }}
g:hover rect {{ stroke: #000; stroke-width: 2; }}
circle {{ fill: {lost}; stroke: #fff; }}
.legend span {{ display: inline-block; height: 14px; vertical-align: middle; margin: 0 6px 0 18px; }}
</style>
<h1>Coverage by genre and year</h1>
<p>{headline}. Point at a cell for its counts.</p>
<p class="legend">0 %<span style="width: 160px; margin: 0 6px;
 background: linear-gradient(to right, {scale})"></span>100 % of the pages stored
<span style="width: 20px;
 background: repeating-linear-gradient(45deg, {unknown} 0 3px, {hatch} 3px 4px)"></span>
not fetched yet
<span style="width: 8px; height: 8px; border-radius: 50%; background: {lost}"></span>pages in quarantine</p>
<svg width="{width}" height="{height}" role="img" aria-label="{headline}">
<defs><pattern id="unknown" width="5" height="5" patternUnits="userSpaceOnUse"
 patternTransform="rotate(45)">
<rect width="5" height="5" fill="{unknown}"/>
<line x1="0" y1="0" x2="0" y2="5" stroke="{hatch}"/></pattern></defs>
{cells}
</svg>
</html>
"""
