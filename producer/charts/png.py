"""The charts as PNG files. Importing this needs matplotlib, the extra `pictures`."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from producer.charts.grid import HATCH, QUARANTINED, UNKNOWN, VIRIDIS, Grid, has_label, stored_share
from producer.coverage import Coverage

COLOURS = LinearSegmentedColormap.from_list("coverage", VIRIDIS)
UNKNOWN_STYLE: dict[str, Any] = {"facecolor": UNKNOWN, "edgecolor": HATCH, "hatch": "////"}
#: Above this share of the largest value cividis is bright: counts are printed in black.
BRIGHT = 0.6


def coverage_png(grid: Grid) -> bytes:
    """The coverage chart."""
    rows, columns = len(grid.genres), len(grid.years)
    with mpl.rc_context({"hatch.linewidth": 0.5, "font.size": 8}):
        figure, axes = _new_figure(max(7.0, 2.6 + 0.1 * columns), 1.4 + 0.2 * rows, grid.headline())
        for row, genre_id in enumerate(grid.genres):
            for column, year in enumerate(grid.years):
                part = grid.at(genre_id, year)
                if part is not None:
                    _draw_cell(axes, column, row, part)
        axes.set(xlim=(0, columns), ylim=(rows, 0))
        axes.set_yticks([row + 0.5 for row in range(rows)], list(grid.genres.values()))
        labelled = [column for column, year in enumerate(grid.years) if has_label(year, columns)]
        axes.set_xticks(
            [column + 0.5 for column in labelled], [str(grid.years[column]) for column in labelled]
        )
        _draw_legend(figure, axes)
        return _png(figure)


def _draw_cell(axes: Axes, column: int, row: int, part: Coverage) -> None:
    share = stored_share(part)
    style = UNKNOWN_STYLE if share is None else {"facecolor": COLOURS(share), "edgecolor": "white"}
    axes.add_patch(Rectangle((column, row), 1, 1, linewidth=0.4, **style))
    if part.quarantined:
        axes.plot(column + 0.5, row + 0.5, "o", color=QUARANTINED, markeredgecolor="white", markersize=3.5)


def _draw_legend(figure: Figure, axes: Axes) -> None:
    scale = ScalarMappable(cmap=COLOURS)
    scale.set_clim(0, 100)
    figure.colorbar(scale, ax=axes, label="% of pages stored", fraction=0.03, pad=0.01)
    dot = Line2D(
        [], [], marker="o", color=QUARANTINED, linestyle="", markersize=3.5, label="pages in quarantine"
    )
    unknown = Patch(label="not fetched yet", **UNKNOWN_STYLE)
    figure.legend(handles=[unknown, dot], loc="outside lower center", ncols=2, frameon=False)


def genre_pairs_png(
    names: Sequence[str], shares: Sequence[Sequence[float]], counts: Sequence[Sequence[int]]
) -> bytes:
    """Genres by genres: each cell has its count, coloured by its share of the row's movies."""
    title = "How often two genres occur together: movies"
    figure, axes = _new_figure(2.2 + 0.42 * len(names), 1.6 + 0.36 * len(names), title)
    most = max((share for row in shares for share in row), default=0) or 1
    # cividis looks the same to colour-blind people, and its brightness grows evenly.
    percent = [[100 * share for share in row] for row in shares]
    image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100 * most)
    for row, row_counts in enumerate(counts):
        for column, count in enumerate(row_counts):
            if count:
                colour = "black" if shares[row][column] > BRIGHT * most else "white"
                text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    label = "% of the row's movies that also have the column's genre"
    figure.colorbar(image, ax=axes, label=label, fraction=0.04)
    return _png(figure)


def _new_figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure, in inches, and its axes without frame or ticks."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
