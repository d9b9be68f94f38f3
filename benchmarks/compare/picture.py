"""The three tables as one picture, readable without colour: length and hatching carry the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

DARK, LIGHT, GREY = "#1f4e79", "#c9d7e6", "#666666"


def draw(document: dict[str, Any], path: Path) -> None:
    """Pages/s, CPU, refused requests and what a kill cost, a bar each, with the figure beside it."""
    full, limited, killed = document["full_speed"], document["under_limit"], document["killed"]
    figure, axes = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    _bars(axes[0][0], full, [("pages_per_s", "pages/s")], "No limit: pages/s")
    cpu = [("client_ms", "client"), ("mongo_ms", "MongoDB")]
    _bars(axes[0][1], full, cpu, "No limit: CPU, ms a page")
    rows = [
        {
            **row,
            "label": f"{row['label']}, {row['processes']}",
            "used": 100 * row["share"],
            "refusals": 100 * row["refused"] / max(1, row["requests"]),
        }
        for row in limited
    ]
    title = f"Limit of {document['rate']:g}/s, by processes, %"
    _bars(axes[1][0], rows, [("used", "of the limit used"), ("refusals", "of the requests refused")], title)
    _bars(
        axes[1][1],
        killed,
        [("pages_lost", "pages lost"), ("fetched_twice", "fetched twice")],
        "SIGKILL in the middle, then resumed: pages",
    )
    made = document["made"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    figure.suptitle(
        f"{made['date']}, {made['machine']['cpu']}, {made['machine']['cores']} cores, "
        f"Python {made['python']}, medians of {made['rounds']}"
    )
    figure.supxlabel(versions, fontsize=7, color=GREY)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(axes: Axes, rows: Sequence[dict[str, Any]], columns: list[tuple[str, str]], title: str) -> None:
    height = 0.8 / len(columns)
    for number, (name, label) in enumerate(columns):
        places = [index + (number - (len(columns) - 1) / 2) * height for index in range(len(rows))]
        style: dict[str, Any] = {"color": DARK}
        if number:
            style = {"color": LIGHT, "hatch": "///", "edgecolor": GREY}
        bars = axes.barh(places, [row.get(name, 0) for row in rows], height, label=label, **style)
        axes.bar_label(bars, fmt="{:.3g}", padding=3, fontsize=8)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if len(columns) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
