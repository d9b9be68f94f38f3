"""Errors, named by what to do next.

::

    ReelhaulError               str() is one line for a person
    ├── UsageError              bad input: say so, exit 2
    ├── NotNow                  wait and try again; only an ApiFailure is counted
    │   ├── RateLimited         429: the limiter pauses the fleet
    │   ├── ApiFailure          5xx, 3xx, no connection, timeout, HTML: perhaps an outage
    │   │   └── Unparsable      a 200 whose body is not what was requested
    │   ├── NoToken             no token within the time that a task may wait
    │   ├── Claimed             another thread is fetching this page now
    │   ├── Stopping            this process was asked to stop
    │   ├── HostFailure         this machine lacks space, files, memory, threads, permissions
    │   ├── MongoUnavailable    MongoDB does not answer or cannot write
    │   ├── RedisUnavailable    Redis does not answer
    │   └── WebhookFailed       the receiver at REELHAUL_WEBHOOK did not take a notification
    ├── NotEver                 quarantine the page with its response
    │   ├── Rejected            400, 404, 422 and the like, in TMDB's own form
    │   ├── Poison              failed on every attempt while similar pages succeeded
    │   ├── Unexpected          a bug of ours, on this page
    │   └── Unstorable          a body that MongoDB cannot store
    └── KeyRejected             401 or a suspended key: the limiter stops
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.records import Response


class ReelhaulError(Exception):
    """Root of all errors that Reelhaul raises on purpose."""


class UsageError(ReelhaulError):
    """Bad input: the text names it and what was expected."""


class NotNow(ReelhaulError):
    """Wait and try again; nothing is wrong with the page."""


class RateLimited(NotNow):
    """HTTP 429; `retry_after_s` is TMDB's Retry-After, None without one."""

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__(f"429, Retry-After {'absent' if retry_after_s is None else f'{retry_after_s:g} s'}")
        self.retry_after_s = retry_after_s


class ApiFailure(NotNow):
    """TMDB is down or sends garbage; `response` is what arrived, if anything did."""

    def __init__(self, reason: str, response: Response | None = None) -> None:
        super().__init__(reason)
        self.response = response


class Unparsable(ApiFailure):
    """A 200 whose body is not what was requested."""


class NoToken(NotNow):
    """No token within the time that a task may wait; the text says why."""


class Claimed(NotNow):
    """Another thread of the fleet is fetching the same page; check again after `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"claimed elsewhere for {wait_s:.3f} s")
        self.wait_s = wait_s


class Stopping(NotNow):
    """This process was asked to stop while it waited."""


class HostFailure(NotNow):
    """This machine lacks space, files, memory, threads or permissions."""


class MongoUnavailable(NotNow):
    """MongoDB does not answer or cannot write."""


class RedisUnavailable(NotNow):
    """Redis does not answer: no tokens, no messages."""


class WebhookFailed(NotNow):
    """The receiver at REELHAUL_WEBHOOK did not take a notification; it is sent again."""


class NotEver(ReelhaulError):
    """Another request does not help: quarantine the page with `response`."""

    #: When the request was made, by the fleet's clock; None without a request.
    requested_at: datetime | None = None

    def __init__(self, reason: str, response: Response | None = None) -> None:
        super().__init__(reason)
        self.response = response


class Rejected(NotEver):
    """TMDB rejects this request, in its own form: 400, 404, 422 and the like."""

    @property
    def not_found(self) -> bool:
        """Whether TMDB has no such page or movie: HTTP 404, or its code 34 in an HTTP 200."""
        return self.response is not None and self.response.status in (404, 200)


class Poison(NotEver):
    """The page failed on every attempt while similar pages succeeded."""


class Unexpected(NotEver):
    """A bug of ours, on this page; the log has the traceback."""


class Unstorable(NotEver):
    """MongoDB cannot store the body: integers beyond 64 bits, lone surrogates, ..."""


class KeyRejected(ReelhaulError):
    """The key is wrong or suspended: nothing is fetched until somebody changes it."""
