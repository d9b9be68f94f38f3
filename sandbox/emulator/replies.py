"""Replies, and TMDB's errors word for word."""

from typing import Any, NamedTuple

from sandbox.emulator.items import encode

Headers = tuple[tuple[bytes, bytes], ...]

_JSON: Headers = ((b"content-type", b"application/json;charset=utf-8"),)

#: TMDB status code to HTTP status and message (TMDB API, "Errors"; 7, 22, 25 and 34 as in recorded bodies).
TMDB_ERRORS: dict[int, tuple[int, str]] = {
    3: (401, "Authentication failed: You do not have permissions to access the service."),
    5: (422, "Invalid parameters: Your request parameters are incorrect."),
    7: (401, "Invalid API key: You must be granted a valid key."),
    9: (503, "Service offline: This service is temporarily offline, try again later."),
    10: (401, "Suspended API key: Access to your account has been suspended, contact TMDB."),
    11: (500, "Internal error: Something went wrong, contact TMDB."),
    20: (422, "Invalid date range: Should be a range no longer than 14 days."),
    22: (400, "Invalid page: Pages start at 1 and max at 500. They are expected to be an integer."),
    23: (400, "Invalid date: Format needs to be YYYY-MM-DD."),
    24: (504, "Your request to the backend server timed out. Try again."),
    25: (429, "Your request count ({count}) is over the allowed limit of {limit}."),
    27: (400, "Too many append to response objects: The maximum number of remote calls is 20."),
    34: (404, "The resource you requested could not be found."),
    42: (405, "This request method is not supported for this resource."),
    43: (502, "Couldn't connect to the backend server."),
    46: (503, "The API is undergoing maintenance. Try again later."),
}


class Reply(NamedTuple):
    """A complete response; Content-Length is added when it is sent."""

    status: int
    body: bytes
    headers: Headers = _JSON


class TmdbError(Exception):
    """Raised by an endpoint to answer with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(status, encode(value))


def error_reply(code: int) -> Reply:
    """TMDB's error with this status code."""
    status, message = TMDB_ERRORS[code]
    return json_reply({"success": False, "status_code": code, "status_message": message}, status)


def too_many_requests(count: int, limit: int, headers: Headers = ()) -> Reply:
    """429 as recorded: without `success`, and without Retry-After unless `headers` has it."""
    message = TMDB_ERRORS[25][1].format(count=count, limit=limit)
    reply = json_reply({"status_code": 25, "status_message": message}, 429)
    return reply._replace(headers=reply.headers + headers)


def old_page_error(page: int) -> Reply:
    """TMDB's error for a page out of range from about 2019 to 2022."""
    text = "page must be greater than 0" if page < 1 else "page must be less than or equal to 500"
    return json_reply({"errors": [text]}, 422)
