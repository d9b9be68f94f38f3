"""A stored document as JSON, as TMDB sent it. Pure: standard library only."""

import json
import math
from collections.abc import Mapping
from typing import Any

#: What Reelhaul adds to TMDB's fields.
OURS = frozenset({"_id", "_meta"})


def to_json(document: Mapping[str, Any]) -> bytes:
    """The document without `_id` and `_meta`, compact; null for a number that JSON cannot express."""
    item = {name: value for name, value in document.items() if name not in OURS}
    try:
        return _encode(item)
    except ValueError:  # it holds an infinity or NaN: an older version or somebody else stored it
        return _encode(_without_infinities(item))


def _encode(item: Any) -> bytes:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _without_infinities(value: Any) -> Any:
    """The same value with null for each number that JSON cannot express."""
    if isinstance(value, dict):
        return {name: _without_infinities(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_infinities(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
