"""What can go wrong, named by what to do next.

::

    ReelhaulError            str() is one clear line for a person
    ├── UsageError           somebody's input: say it, exit 2
    ├── NotNow               wait, then again; no attempt is counted
    │   ├── RateLimited      429: the gate pauses the fleet
    │   ├── ApiTrouble       5xx, 3xx, refused, reset, timeout, HTML: the outage gate
    │   │   └── Unparsable   a 200 that is not what was asked for
    │   ├── NoPermit         no token within the time a slot may wait
    │   ├── Claimed          another slot is fetching this page at this moment
    │   ├── Stopping         this process was asked to stop
    │   ├── HostFault        this machine cannot: files, memory, threads, permissions
    │   ├── StoreAway        MongoDB does not answer or cannot write
    │   └── BrokerAway       Redis does not answer
    ├── NotEver              quarantine this page, with its response
    │   ├── Rejected         400, 404, 422 and their like, in TMDB's own words
    │   ├── Poison           failed on every try while others like it were well
    │   ├── Unexpected       a fault of ours, met on this page
    │   └── Unstorable       a body that MongoDB cannot hold as it is
    └── Forbidden            401 or a suspended key: the fleet stops
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Response:
    """An answer of the API as far as it came: HTTP status (0: none), the body's bytes, its headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


NO_RESPONSE = Response(0, b"")


class ReelhaulError(Exception):
    """Root of all that Reelhaul raises on purpose."""


class UsageError(ReelhaulError):
    """Input that cannot be used: the text names it, what was expected and what to do."""


class NotNow(ReelhaulError):
    """Wait, then again; nothing is wrong with the page."""


class RateLimited(NotNow):
    """HTTP 429; `retry_after_s` is what the API asked for, None when it did not say."""

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__(f"429, Retry-After {'absent' if retry_after_s is None else f'{retry_after_s:g} s'}")
        self.retry_after_s = retry_after_s


class ApiTrouble(NotNow):
    """The API is down or answers nonsense; `response` is what came of it."""

    def __init__(self, reason: str, response: Response = NO_RESPONSE) -> None:
        super().__init__(reason)
        self.response = response


class Unparsable(ApiTrouble):
    """A 200 whose body is not what was asked for."""


class NoPermit(NotNow):
    """The gate gave no token within the time a slot may wait; the text says why."""


class Claimed(NotNow):
    """Another slot is fetching the same page; look again after `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"claimed elsewhere for {wait_s:.3f} s")
        self.wait_s = wait_s


class Stopping(NotNow):
    """This process was asked to stop while it waited."""


class HostFault(NotNow):
    """This machine cannot go on just now: no room, no file, no memory, no permission."""


class StoreAway(NotNow):
    """MongoDB does not answer, or cannot write."""


class BrokerAway(NotNow):
    """Redis does not answer: neither tokens nor messages can be had."""


class NotEver(ReelhaulError):
    """Asking again will not help: quarantine the page with `response`."""

    #: When it was asked for, on the fleet's clock; None: nothing was.
    asked_at: datetime | None = None

    def __init__(self, reason: str, response: Response = NO_RESPONSE) -> None:
        super().__init__(reason)
        self.response = response


class Rejected(NotEver):
    """The API refuses this very request, in its own words: 400, 404, 422 and their like."""

    @property
    def not_found(self) -> bool:
        """Whether the API has no such thing: HTTP 404, or its code 34 that came with HTTP 200."""
        return self.response.status in (404, 200)


class Poison(NotEver):
    """The page failed on every try while others like it were well."""


class Unexpected(NotEver):
    """A fault of ours, met on this page; the log has the traceback."""


class Unstorable(NotEver):
    """MongoDB cannot hold the body as it is: integers beyond 64 bits, lone surrogates, ..."""


class Forbidden(ReelhaulError):
    """The key is wrong or suspended: nothing can be fetched until somebody mends it."""
