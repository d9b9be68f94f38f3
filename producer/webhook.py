"""Sends a JSON document to REELHAUL_WEBHOOK."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from worker.errors import WebhookFailed
from worker.tmdb.session import build_session, ends_by

#: Seconds to connect, and to wait for the next bytes of the answer.
TIMEOUT_S = (3.05, 8.0)
#: Seconds for the whole request.
WHOLE_S = 10.0


class Webhook:
    """An address of which only the host is shown to what observes requests: its path may be a secret."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        #: What may be shown.
        self.host = f"{parts.scheme}://{parts.netloc}"
        path = parts.path or "/"
        self._secrets = _HiddenPath(f"{path}?{parts.query}" if parts.query else path)

    def post(self, document: Mapping[str, Any]) -> None:
        """Send the document; WebhookFailed unless the receiver answers with a status of 200 to 299."""
        with build_session(self.host, 1, self._secrets) as session, ends_by(time.monotonic() + WHOLE_S):
            try:
                answer = session.post(
                    f"{self.host}/", json=document, timeout=TIMEOUT_S, allow_redirects=False, stream=True
                )
                answer.close()
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                # The text may quote what a proxy or the receiver sent.
                raise WebhookFailed(type(error).__name__) from None
        if not 200 <= answer.status_code < 300:
            raise WebhookFailed(f"HTTP {answer.status_code}")


class _HiddenPath:
    """Replaces the path `/` by the webhook's own as the request is written to the connection."""

    headers: Mapping[str, str] = {}

    def __init__(self, path: str) -> None:
        self._path = path

    def address(self, url: str) -> str:
        return url.removesuffix("/") + self._path
