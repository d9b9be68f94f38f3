"""The coverage chart as PNG. Importing it needs matplotlib, the extra `pictures`."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from producer.charts.grid import HATCH, QUARANTINED, UNKNOWN, VIRIDIS, Grid, has_label, stored_share
from producer.charts.png import new_figure, png_bytes
from producer.coverage import Coverage

COLOURS = LinearSegmentedColormap.from_list("coverage", VIRIDIS)
UNKNOWN_STYLE: dict[str, Any] = {"facecolor": UNKNOWN, "edgecolor": HATCH, "hatch": "////"}


def coverage_png(grid: Grid) -> bytes:
    """The whole file."""
    rows, columns = len(grid.genres), len(grid.years)
    with mpl.rc_context({"hatch.linewidth": 0.5, "font.size": 8}):
        figure, axes = new_figure(max(7.0, 2.6 + 0.1 * columns), 1.4 + 0.2 * rows, grid.headline())
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
        return png_bytes(figure)


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
