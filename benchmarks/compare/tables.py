"""The results of a comparison as tables of text, and as the README's table. Pure."""

import re
from collections.abc import Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]

BEGIN, END = "<!-- benchmark: made by `make bench-readme` -->", "<!-- /benchmark -->"
_SECTION = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)

FULL_SPEED = {
    "pages_per_s": "pages/s",
    "client_ms": "client CPU ms/page",
    "mongo_ms": "MongoDB",
    "redis_ms": "Redis",
    "api_ms": "API",
    "peak_mb": "peak MB",
    "runs": "runs",
}
UNDER_LIMIT = {
    "processes": "processes",
    "share": "share of the limit",
    "requests": "requests",
    "refused": "refused",
    "client_ms": "client CPU ms/page",
    "pages_lost": "pages lost",
    "runs": "runs",
}
KILLED = {
    "stored_at_kill": "stored when killed",
    "pages_lost": "pages lost",
    "fetched_twice": "fetched twice",
    "resumed_s": "s until complete",
    "runs": "runs",
}
#: The figure, Reelhaul's row, the peer's row, and the most (of CPU) or least (of speed) that is promised.
RATIOS = {
    "cpu_by_crawlee": ("client_ms", "Reelhaul, threads", "crawlee", 1.0),
    "cpu_by_scrapy": ("client_ms", "Reelhaul, threads", "Scrapy", 0.5),
    "speed_by_aiohttp": ("pages_per_s", "Reelhaul, 2 workers", "aiohttp", 1.2),
    "speed_by_scrapy": ("pages_per_s", "Reelhaul, 2 workers", "Scrapy", 1.5),
}


def medians(label: str, runs: Sequence[Row], **more: Any) -> Row:
    """One row for the runs of a contestant: medians; a flag holds if it held in every run."""
    row: Row = {"label": label, **more}
    for name, value in runs[0].items():
        values = [run[name] for run in runs]
        row[name] = all(values) if isinstance(value, bool) else round(median(values), 3)
    return {**row, "runs": len(runs)}


def ratios(full_speed: Sequence[Row]) -> dict[str, Row]:
    """Reelhaul by its peers, each with the bound that it should keep; without those that were not run."""
    rows = {row["label"]: row for row in full_speed}
    found = {}
    for name, (figure, ours, theirs, bound) in RATIOS.items():
        if ours in rows and rows.get(theirs, {}).get(figure):
            value = round(rows[ours][figure] / rows[theirs][figure], 2)
            # Less CPU is better, more pages are.
            kept = value <= bound if figure == "client_ms" else value >= bound
            found[name] = {"value": value, "bound": bound, "kept": kept}
    return found


def as_text(document: Row) -> str:
    """All three tables, and what the figures depend on."""
    parts = [
        "No limit",
        _table(document["full_speed"], FULL_SPEED),
        f"Under a server that enforces {document['rate']:g}/s",
        _table(document["under_limit"], UNDER_LIMIT),
        "SIGKILL in the middle, then resumed",
        _table(document["killed"], KILLED),
        "Reelhaul by its peers: "
        + ", ".join(
            f"{name} {ratio['value']} ({'kept' if ratio['kept'] else 'not kept'}: {ratio['bound']})"
            for name, ratio in document["ratios"].items()
        ),
        *(f"not run: {label}: {reason}" for label, reason in document["not_run"].items()),
    ]
    return "\n\n".join(parts)


def with_section(readme: str, document: Row) -> str:
    """The README with its table made anew; ValueError when the two comments that enclose it are missing."""
    if not _SECTION.search(readme):
        raise ValueError(f"README.md: expected the comments {BEGIN} and {END}")
    return _SECTION.sub(lambda _: f"{BEGIN}\n{section(document)}\n{END}", readme)


def section(document: Row) -> str:
    """One table from all three; a dash where a contestant does not take part."""
    limited = {row["label"]: row for row in document["under_limit"] if row["processes"] == 2}
    killed = {row["label"]: row for row in document["killed"]}
    lines = [
        f"| | pages/s | CPU ms/page | 2 at {document['rate']:g}/s: refused | killed: lost | fetched twice |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in document["full_speed"]:
        name = row.get("in_short", row["label"])
        under, after = limited.get(name), killed.get(name)
        cells = [
            row["label"] + (" (extrapolated)" if row.get("extrapolated") else ""),
            f"{row['pages_per_s']:g}",
            f"{row['client_ms']:g}",
            f"{under['refused']:g} of {under['requests']:g}" if under else "",
            f"{after['pages_lost']:g} of {after['pages']:g}" if after else "",
            f"{after['fetched_twice']:g}" if after else "",
        ]
        lines.append("| " + " | ".join(cell or "-" for cell in cells) + " |")
    return "\n".join([*lines, "", _source(document["made"])])


def _source(made: Row) -> str:
    """Where and when it was measured, on two lines."""
    machine, (before, after) = made["machine"], made["load"]
    return (
        f"{made['date']}: {machine['cpu']}, {machine['cores']} cores, load {before:g} to {after:g}, "
        f"Python {made['python']}.\nMedians of {made['rounds']} rounds; "
        f"{made['pages']:,} pages of 20 new movies into the embedded MongoDB."
    )


def _table(rows: Sequence[Row], columns: dict[str, str]) -> str:
    head = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "--:|" * len(columns)]
    return "\n".join(
        head
        + [
            f"| {row['label']} | "
            + " | ".join(f"{row[name]:g}" if name in row else "-" for name in columns)
            + " |"
            for row in rows
        ]
    )
