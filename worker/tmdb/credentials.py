"""The key, added to a request as it is written to its connection.

What observes requests (tracing, an error reporter, urllib3's log) sees addresses and headers before that, so
without the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode


class Secrets(Protocol):
    """What only the connection adds to a request."""

    def address(self, url: str) -> str:
        """The address to send, made of the one that everything else sees."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that nothing else sees."""


@dataclass(frozen=True)
class Credentials:
    """The read access token, or else the v3 API key, which TMDB takes in the query alone."""

    token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)

    def address(self, url: str) -> str:
        """The request's target with the API key, unless there is a token."""
        if self.token or not self.api_key:
            return url
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'api_key': self.api_key})}"

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


NO_CREDENTIALS = Credentials()
