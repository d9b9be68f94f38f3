"""The heat map as PNG. Importing this needs matplotlib, the extra `pictures`."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from producer.charts.coverage_html import HATCH, LOST, UNKNOWN, VIRIDIS, Grid, headline, marked, share
from producer.coverage import Coverage

COLOURS = LinearSegmentedColormap.from_list("coverage", VIRIDIS)
UNKNOWN_LOOK: dict[str, Any] = {"facecolor": UNKNOWN, "edgecolor": HATCH, "hatch": "////"}


def draw(whole: Grid) -> bytes:
    """The picture's file."""
    rows, columns = len(whole.genres), len(whole.years)
    with mpl.rc_context({"hatch.linewidth": 0.5, "font.size": 8}):
        size = (max(7.0, 2.6 + 0.1 * columns), 1.4 + 0.2 * rows)
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for row, genre_id in enumerate(whole.genres):
            for column, year in enumerate(whole.years):
                part = whole.at(genre_id, year)
                if part is not None:
                    _cell(axes, column, row, part)
        axes.set(xlim=(0, columns), ylim=(rows, 0))
        axes.set_title(headline(whole), loc="left")
        axes.set_yticks([row + 0.5 for row in range(rows)], list(whole.genres.values()))
        shown = [column for column, year in enumerate(whole.years) if marked(year, columns)]
        axes.set_xticks([column + 0.5 for column in shown], [str(whole.years[column]) for column in shown])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        _legend(figure, axes)
        file = BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def _cell(axes: Axes, column: int, row: int, part: Coverage) -> None:
    done = share(part)
    look = UNKNOWN_LOOK if done is None else {"facecolor": COLOURS(done), "edgecolor": "white"}
    axes.add_patch(Rectangle((column, row), 1, 1, linewidth=0.4, **look))
    if part.quarantined:
        axes.plot(column + 0.5, row + 0.5, "o", color=LOST, markeredgecolor="white", markersize=3.5)


def _legend(figure: Figure, axes: Axes) -> None:
    scale = ScalarMappable(cmap=COLOURS)
    scale.set_clim(0, 100)
    figure.colorbar(scale, ax=axes, label="% of pages stored", fraction=0.03, pad=0.01)
    lost = Line2D([], [], marker="o", color=LOST, linestyle="", markersize=3.5, label="pages in quarantine")
    unknown = Patch(label="not fetched yet", **UNKNOWN_LOOK)
    figure.legend(handles=[unknown, lost], loc="outside lower center", ncols=2, frameon=False)
