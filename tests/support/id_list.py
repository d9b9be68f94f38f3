"""Lines of TMDB's daily list of movie ids."""

import json
from collections.abc import Iterable, Iterator


def line(id_: int, **facts: object) -> bytes:
    """A line of the list, its fields changed by `facts`."""
    movie = {"adult": False, "id": id_, "original_title": f"No {id_}", "popularity": 0.6, "video": False}
    return json.dumps({**movie, **facts}).encode() + b"\n"


def lines(ids: Iterable[int]) -> Iterator[bytes]:
    """A line for each id."""
    return map(line, ids)
