"""What the PNG charts share. Importing it needs matplotlib, the extra `pictures`."""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def new_figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure, in inches, and its axes without frame or ticks."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
