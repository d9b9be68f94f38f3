"""Faults that change a reply's status, headers or body."""

import gzip
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import quote

from sandbox.emulator.faults import Fault
from sandbox.emulator.items import encode
from sandbox.emulator.replies import TMDB_ERRORS, Headers, Reply, error_reply, json_reply, too_many_requests

Page = dict[str, Any]

_HTML: Headers = ((b"content-type", b"text/html"),)
_HTML_PAGE = b"<html>\r\n<head><title>%d</title></head>\r\n<body><h1>%d</h1></body>\r\n</html>\r\n"
#: Statuses whose replies have no body (RFC 9110, 6.4.1).
_BODILESS = (204, 304)
#: Just under three thousand years.
_ABSURD_SECONDS = 90_000_000_000
#: MongoDB rejects documents of more than 100 levels or 16 MiB (MongoDB manual, limits and thresholds).
_NESTING, _OVERSIZE = 200, 17_000_000
#: More levels than Python's json parses.
_ABYSS = 100_000
#: Placeholder until the page is encoded: Python cannot encode a value that deep.
_ABYSS_MARK = b'"<abyss>"'


class Shown(NamedTuple):
    """What a fault can show of a request: `path?query`, and the Authorization header."""

    target: str = "/3/"
    authorization: str = ""


def spoil(reply: Reply, fault: Fault, shown: Shown = Shown()) -> Reply:  # noqa: B008 -- immutable
    """The reply that is sent instead.

    Faults of delivery do not change it, and faults of a page do not change an error.
    """
    spoiled = _spoiled(reply, fault, shown)
    return spoiled._replace(body=b"") if spoiled.status in _BODILESS else spoiled


def _spoiled(reply: Reply, fault: Fault, shown: Shown) -> Reply:
    if fault.kind in _REPLY_FAULTS:
        return _REPLY_FAULTS[fault.kind](reply, fault.value, shown)
    if fault.kind in _PAGE_FAULTS and reply.status == 200:
        page = json.loads(reply.body)
        _PAGE_FAULTS[fault.kind](page, fault.value)
        return reply._replace(body=encode(page).replace(_ABYSS_MARK, b"[" * _ABYSS + b"]" * _ABYSS))
    return reply


def _retry_after(value: str) -> Headers:
    if value == "none":
        return ()
    if value.startswith("date"):
        text = formatdate(time.time() + int(value.removeprefix("date")), usegmt=True)
    else:
        text = {"absurd": str(_ABSURD_SECONDS), "garbage": "soon, maybe"}.get(value, value)
    return ((b"retry-after", text.encode()),)


def _with_status(value: str) -> Reply:
    """`503/html`, `503/empty`, or `503`: TMDB's first error with that status, else one that names it."""
    number, *form = value.split("/")
    status = int(number)
    if form == ["html"]:
        return _html(status)
    if form == ["empty"]:
        return Reply(status, b"", ())
    known = [code for code, (code_status, _) in TMDB_ERRORS.items() if code_status == status]
    if not known:
        return json_reply({"success": False, "status_message": number}, status)
    return error_reply(known[0])


def _html(status: int, headers: Headers = ()) -> Reply:
    return Reply(status, _HTML_PAGE % (status, status), _HTML + headers)


def _redirect(_: Reply, value: str, shown: Shown) -> Reply:
    """A redirect to a portal, as a hotel's, whose address quotes the requested one."""
    return _html(int(value), ((b"location", b"/3/portal?from=" + quote(shown.target, safe="").encode()),))


def _echo(reply: Reply, value: str, shown: Shown) -> Reply:
    """The reply, or an error with another status, with the request in its headers, as caches do."""
    target, authorization = shown.target.encode(), shown.authorization.encode()
    if value != "200":
        body = {"success": False, "status_code": 5, "status_message": f"{shown.target} {shown.authorization}"}
        reply = json_reply(body, int(value))
    addresses: Headers = ((b"content-location", target), (b"location", target))
    headers: Headers = ((b"x-cache-key", b"GET tmdb" + target), (b"x-authorization", authorization))
    return reply._replace(headers=reply.headers + addresses + headers)


def _spoil_results(page: Page, value: str) -> None:
    if value == "missing":
        del page["results"]
    else:
        page["results"] = {"null": None, "object": {"0": {}}, "text": "none"}[value]


def _spoil_page(page: Page, value: str) -> None:
    page["page"] = int(value) if value else page["page"] + 1


def _spoil_totals(page: Page, value: str) -> None:
    for name, text in zip(("total_pages", "total_results"), value.split("/"), strict=True):
        page[name] = max(0, page[name] + int(text)) if text[0] in "+-" else int(text)


def _empty_page(page: Page, value: str) -> None:
    page["results"] = []
    _spoil_totals(page, value)


def _shorten(page: Page, value: str) -> None:
    page["results"] = page["results"][: max(0, len(page["results"]) - int(value))]


def _make_hostile(page: Page, value: str) -> None:
    if page["results"]:
        _HOSTILE_ROWS[value](page["results"])


def _bad_ids(rows: list[Any]) -> None:
    for row, movie_id in zip(rows, ("603", 1.5, None, True, -1, [603]), strict=False):
        row["id"] = movie_id


def _first(**fields: Any) -> Callable[[list[Any]], None]:
    return lambda rows: rows[0].update(fields)


#: Faults that replace a reply or its bytes.
_REPLY_FAULTS: dict[str, Callable[[Reply, str, Shown], Reply]] = {
    "429": lambda _, value, __: too_many_requests(41, 40, _retry_after(value)),
    "status": lambda _, value, __: _with_status(value),
    "error": lambda _, code, __: error_reply(int(code)),
    "error-200": lambda _, code, __: error_reply(int(code))._replace(status=200),
    "redirect": _redirect,
    "echo": _echo,
    "html": lambda *_: _html(200),
    "empty": lambda reply, *_: reply._replace(body=b""),
    # Without Content-Encoding, as TMDB's cache sent pages in May 2026.
    "gzip": lambda reply, *_: reply._replace(body=gzip.compress(reply.body, mtime=0)),
    "not-json": lambda reply, *_: reply._replace(body=reply.body[: len(reply.body) // 2]),
}

#: Faults that change a page in place.
_PAGE_FAULTS: dict[str, Callable[[Page, str], None]] = {
    "results": _spoil_results,
    "wrong-page": _spoil_page,
    "totals": _spoil_totals,
    "no-results": _empty_page,
    "short": _shorten,
    "hostile": _make_hostile,
}

#: Each hostile payload changes the rows of a page, of which there is at least one.
_HOSTILE_ROWS: dict[str, Callable[[list[Any]], None]] = {
    "abyss": _first(nested=_ABYSS_MARK.decode().strip('"')),
    "bad-ids": _bad_ids,
    "bad-rows": lambda rows: rows.__setitem__(slice(3), [None, 603, "The Matrix"]),
    "big-id": lambda rows: rows[0].update(id=2**64 + rows[0]["id"]),
    "bigint": _first(vote_count=2**70, revenue=-(2**65)),
    "duplicates": lambda rows: rows.__setitem__(-1, rows[0]),
    "keys": lambda rows: rows[0].update({"a.b": 1, "$set": {"$where": "1"}, "": 2}),
    "megabyte": _first(overview="x" * 1_000_000),
    "nan": _first(popularity=float("nan"), vote_average=float("-inf")),
    "nesting": lambda rows: rows[0].update(nested=json.loads("[" * _NESTING + "]" * _NESTING)),
    "nul": lambda rows: rows[0].update({"title": "The\0Matrix", "a\0b": 1}),
    "oversize": lambda rows: rows[0].update(overview="x" * _OVERSIZE),
    "reserved": _first(_id="theirs", _meta={"sha256": "theirs"}),
    "surrogate": _first(title="\ud83d without its other half"),
}
