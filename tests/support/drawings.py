"""`make docs`: draw docs/drawings.toml as SVG files, boxes with text and arrows between them."""

import tomllib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINE = 16
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}"
 font-family="sans-serif">
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>
<rect width="{0}" height="{1}" fill="#fff"/>"""
Box = list[Any]


def drawings() -> dict[str, str]:
    """SVG by name."""
    tables = tomllib.loads((DOCS / "drawings.toml").read_text(encoding="utf-8"))
    return {name: _svg(table) for name, table in tables.items()}


def path_of(name: str) -> Path:
    return DOCS / "images" / f"{name}.svg"


def _svg(table: dict[str, Any]) -> str:
    boxes: dict[str, Box] = table["boxes"]
    arrows = [_arrow(boxes[arrow["from"]], boxes[arrow["to"]], arrow["text"]) for arrow in table["arrows"]]
    parts = [HEAD.format(*table["size"]), *arrows, *map(_box, boxes.values()), "</svg>"]
    return "\n".join(parts) + "\n"


def _box(box: Box) -> str:
    left, top, width, height, text = box
    lines = text.split("\n")
    first = top + height / 2 - LINE * (len(lines) - 1) / 2 + 4
    at = f'<text x="{left + width / 2:g}" text-anchor="middle" font-size="12"'
    rows = [
        f'{at} y="{first + LINE * number:g}" font-weight="{700 - 300 * bool(number)}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    frame = f'x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="#eef4fb" stroke="#36658f"'
    return "\n".join([f"<rect {frame}/>", *rows])


def _arrow(start: Box, end: Box, text: str) -> str:
    (x1, y1), (x2, y2) = _edge(start, end), _edge(end, start)
    line = f'<path d="M{x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f}" stroke="#555" marker-end="url(#tip)"/>'
    at = f'x="{(x1 + x2) / 2:.0f}" y="{(y1 + y2) / 2 - 6:.0f}" text-anchor="middle" font-size="11" '
    at += 'fill="#555" stroke="#fff" stroke-width="4" paint-order="stroke"'
    return f"{line}\n<text {at}>{escape(text)}</text>" if text else line


def _edge(box: Box, other: Box) -> tuple[float, float]:
    """Where the line between the middles of both boxes leaves the first."""
    (x, y), (to_x, to_y) = _middle(box), _middle(other)
    share = 1 / max(abs(to_x - x) / (box[2] / 2), abs(to_y - y) / (box[3] / 2))
    return x + (to_x - x) * share, y + (to_y - y) * share


def _middle(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


if __name__ == "__main__":
    for name, svg in drawings().items():
        path_of(name).write_text(svg, encoding="utf-8")
