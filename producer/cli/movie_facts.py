"""What is known of one movie, for a person, whatever TMDB sent in the place of each field."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from rich.table import Table

from producer.cli.render import console

#: No movie's budget, votes or minutes are anywhere near.
_LARGEST = 10**15


def print_movie(details: Mapping[str, Any], source: str) -> None:
    """Print the facts that there are, then the overview, then where all this is from."""
    facts = Table.grid(padding=(0, 2))
    for name, text in _facts(details):
        if text:
            facts.add_row(name, console().render_str(text, markup=False, emoji=False, highlight=False))
    out = console()
    out.print(facts)
    out.print(f"\n{printable(details.get('overview') or 'no overview')}", markup=False, emoji=False)
    out.print(f"\n{source}")


def votes(movie: Mapping[str, Any]) -> str:
    """`8.2 (9,000)`; "" without numbers."""
    average, number = movie.get("vote_average"), movie.get("vote_count")
    return f"{average:.1f} ({number:,})" if _is_number(average) and _is_number(number) else ""


def printable(value: Any) -> str:
    """The value as one line of text: control characters become spaces."""
    return "".join(sign if sign.isprintable() else " " for sign in str(value))


def _facts(details: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Each field's name for people, and its text; "" for what is missing, empty or 0."""

    def text(name: str) -> str:
        return printable(details.get(name) or "")

    title, original = text("title"), text("original_title")
    yield "id", text("id")
    yield "title", title
    yield "original title", original if original != title else ""
    yield "tagline", text("tagline")
    yield "released", text("release_date")
    yield "status", text("status")
    yield "runtime", _runtime(details.get("runtime"))
    yield "genres", _names(details.get("genres"))
    yield "budget", _dollars(details.get("budget"))
    yield "revenue", _dollars(details.get("revenue"))
    yield "votes", votes(details)
    yield "popularity", text("popularity")
    yield "language", text("original_language")
    yield "spoken", _names(details.get("spoken_languages"), "english_name", "name")
    yield "countries", _names(details.get("production_countries"))
    yield "companies", _names(details.get("production_companies"))
    yield "collection", _names([details.get("belongs_to_collection")])
    yield "homepage", text("homepage")
    yield "IMDb", text("imdb_id")


def _names(values: Any, *fields: str) -> str:
    """The names of a list of objects, by the first of the fields that one has."""
    named = []
    for value in values if isinstance(values, list) else []:
        if isinstance(value, Mapping):
            named += [name for field in fields or ("name",) if (name := value.get(field))][:1]
    return printable(", ".join(map(str, named)))


def _dollars(amount: Any) -> str:
    return f"${amount:,}" if _is_number(amount) and amount else ""


def _runtime(minutes: Any) -> str:
    if not _is_number(minutes) or not minutes:
        return ""
    hours, rest = divmod(round(minutes), 60)
    return f"{hours}h {rest:02d}m" if hours else f"{rest}m"


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Also not NaN, infinite, or too large to be printed as a float."""
    return type(value) in (int, float) and abs(value) < _LARGEST
