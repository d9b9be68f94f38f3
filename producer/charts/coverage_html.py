"""The coverage chart as one HTML file: an SVG that needs no network and shows each cell's counts."""

from html import escape
from pathlib import Path

from producer.charts.grid import (
    HATCH,
    QUARANTINED,
    UNKNOWN,
    VIRIDIS,
    Grid,
    has_label,
    stored_share,
)
from producer.coverage import Coverage, in_quarantine
from worker.errors import UsageError
from worker.monitoring.files import replace_file

#: Pixels. Cells are as wide as fits a screen 1280 wide, within limits.
WIDEST, NARROWEST, HEIGHT, SCREEN = 40, 8, 20, 1080
#: Pixels for the genres' names and for the years.
LEFT, TOP = 150, 46


def coverage_html(grid: Grid) -> str:
    """The whole file."""
    step = max(NARROWEST, min(WIDEST, SCREEN // len(grid.years)))
    parts = [_year(number, year, step) for number, year in enumerate(grid.years)]
    for row, (genre_id, name) in enumerate(grid.genres.items()):
        y = TOP + row * HEIGHT
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        for column, year in enumerate(grid.years):
            part = grid.at(genre_id, year)
            if part is not None:
                parts.append(_cell(tooltip(name, year, part), part, (LEFT + column * step, y), step))
    return PAGE.format(
        headline=escape(grid.headline()),
        width=LEFT + step * len(grid.years) + 20,
        height=TOP + HEIGHT * len(grid.genres) + 10,
        cells="\n".join(filter(None, parts)),
        scale=", ".join(VIRIDIS),
        unknown=UNKNOWN,
        hatch=HATCH,
        quarantined=QUARANTINED,
    )


def tooltip(genre: str, year: int, part: Coverage) -> str:
    """A cell's counts in one line."""
    if not part.opened:
        return f"{genre} {year}: not fetched yet{in_quarantine(part.quarantined)}"
    stored = f"{part.stored:,} of {part.planned:,} pages stored"
    return f"{genre} {year}: {stored}, {part.missing:,} missing{in_quarantine(part.quarantined)}"


def _year(number: int, year: int, step: int) -> str:
    if step < WIDEST and not has_label(year, SCREEN // step):
        return ""
    x = LEFT + number * step + step / 2
    return f'<text x="{x:g}" y="{TOP - 8}" text-anchor="middle">{year}</text>'


def _cell(title: str, part: Coverage, corner: tuple[int, int], step: int) -> str:
    share, (x, y) = stored_share(part), corner
    fill = "url(#unknown)" if share is None else _colour(share)
    dot = f'<circle cx="{x + step / 2:g}" cy="{y + HEIGHT / 2:g}" r="2.5"/>' if part.quarantined else ""
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect x="{x}" y="{y}" width="{step - 1}" height="{HEIGHT - 1}" fill="{fill}"/>{dot}</g>'
    )


def _colour(share: float) -> str:
    """The colour on the scale, mixed from the two nearest steps."""
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    low = min(int(place), len(VIRIDIS) - 2)
    ends = [[int(VIRIDIS[index][at : at + 2], 16) for at in (1, 3, 5)] for index in (low, low + 1)]
    mixed = (round(a + (b - a) * (place - low)) for a, b in zip(*ends, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def write(target: Path, content: bytes) -> None:
    """Write the file, whole or not at all; UsageError when it cannot be written."""
    try:
        with replace_file(target) as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Reelhaul: coverage</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 24px; color: #222; background: #fff; }}
svg {{ font-size: 12px; fill: #222; }}
g:hover rect {{ stroke: #000; stroke-width: 2; }}
circle {{ fill: {quarantined}; stroke: #fff; }}
.legend span {{ display: inline-block; height: 14px; vertical-align: middle; margin: 0 6px 0 18px; }}
</style>
<h1>Coverage by genre and year</h1>
<p>{headline}. Point at a cell for its counts.</p>
<p class="legend">0 %<span style="width: 160px; margin: 0 6px;
 background: linear-gradient(to right, {scale})"></span>100 % of the pages stored
<span style="width: 20px;
 background: repeating-linear-gradient(45deg, {unknown} 0 3px, {hatch} 3px 4px)"></span>
not fetched yet
<span style="width: 8px; height: 8px; border-radius: 50%; background: {quarantined}"></span>
pages in quarantine</p>
<svg width="{width}" height="{height}" role="img" aria-label="{headline}">
<defs><pattern id="unknown" width="5" height="5" patternUnits="userSpaceOnUse"
 patternTransform="rotate(45)">
<rect width="5" height="5" fill="{unknown}"/>
<line x1="0" y1="0" x2="0" y2="5" stroke="{hatch}"/></pattern></defs>
{cells}
</svg>
</html>
"""
