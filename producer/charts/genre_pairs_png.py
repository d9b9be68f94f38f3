"""How often two genres share a movie, as PNG. Importing it needs matplotlib, the extra `pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from producer.charts.png import new_figure, png_bytes

T = TypeVar("T")
Rows = Sequence[Sequence[T]]
#: Above this share of the largest value cividis is bright: counts are printed in black.
_BRIGHT = 0.6


def genre_pairs_png(names: Sequence[str], shares: Rows[float], counts: Rows[int]) -> bytes:
    """The whole file: genres by genres, coloured by share of the row's movies, with counts in the cells."""
    title = "How often two genres occur together: movies"
    figure, axes = new_figure(2.2 + 0.42 * len(names), 1.6 + 0.36 * len(names), title)
    most = max((share for row in shares for share in row), default=0) or 1
    # cividis looks the same to colour-blind people, and its brightness grows evenly.
    percent = [[100 * share for share in row] for row in shares]
    image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100 * most)
    for row, row_counts in enumerate(counts):
        for column, count in enumerate(row_counts):
            if count:
                colour = "black" if shares[row][column] > _BRIGHT * most else "white"
                text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    label = "% of the row's movies that also have the column's genre"
    figure.colorbar(image, ax=axes, label=label, fraction=0.04)
    return png_bytes(figure)
