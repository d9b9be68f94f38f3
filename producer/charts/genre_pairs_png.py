"""Which genres stand together, as PNG. Importing this needs matplotlib, the extra `pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

T = TypeVar("T")
Rows = Sequence[Sequence[T]]
#: Shares above it are dark in cividis' upper half: the count stands there in black.
_BRIGHT = 0.6


def draw(names: Sequence[str], shares: Rows[float], counts: Rows[int]) -> bytes:
    """The picture's file: genres by genres, coloured by share of the row's movies, counts in the cells."""
    figure = Figure(figsize=(2.2 + 0.42 * len(names), 1.6 + 0.36 * len(names)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = max((share for row in shares for share in row), default=0) or 1
    # cividis looks the same to colour-blind people, and grows brighter evenly.
    image = axes.imshow(
        [[100 * share for share in row] for row in shares], cmap="cividis", vmin=0, vmax=100 * most
    )
    for row, of_row in enumerate(counts):
        for column, count in enumerate(of_row):
            if count:
                colour = "black" if shares[row][column] > _BRIGHT * most else "white"
                text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("How often two genres stand together: movies", loc="left")
    figure.colorbar(
        image, ax=axes, label="% of the row's movies that are of the column's genre too", fraction=0.04
    )
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
