"""`make docs`: write the table in docs/settings.md from the fields of Settings."""

import re
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from worker import settings as module
from worker.durations import format_duration
from worker.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
BEGIN, END = "<!-- settings: made by `make docs` -->\n", "<!-- /settings -->"
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}"}


def page() -> str:
    """docs/settings.md with the table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def table() -> str:
    """A row for each setting: its name, default, bounds, and the comment that stands over its field."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    comments = {
        name: " ".join(line.strip().removeprefix("#: ") for line in text.splitlines())
        for text, name in re.findall(r"((?:    #: .*\n)+)    (\w+): ", source)
    }
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        bounds = _bounds(field)
        what = f"{comments[name]} {bounds[:1].upper()}{bounds[1:]}." if bounds else comments[name]
        rows.append(f"| `{name.upper()}` | {_default(field)} | {what} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    elif isinstance(value, timedelta):
        value = format_duration(value)
    elif isinstance(value, bool):
        value = int(value)
    return "" if value is None else f"`{value}`"


def _bounds(field: FieldInfo) -> str:
    """`at least 1, at most 256`."""
    limits = [
        (name, getattr(rule, name)) for rule in field.metadata for name in _BOUNDS if hasattr(rule, name)
    ]
    return ", ".join(_BOUNDS[name].format(f"{limit:,}") for name, limit in limits)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
