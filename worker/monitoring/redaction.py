"""Removes secrets from what is stored, logged or shown. Pure."""

import html
import json
import re
from urllib.parse import quote, quote_plus

MASK = "[secret]"
#: Shorter secrets are left alone: other text could contain them by chance.
SHORTEST = 8


class Redactor:
    """Replaces secrets, in any case and as URLs, JSON and HTML write them."""

    def __init__(self, *secrets: str) -> None:
        forms = sorted({form.lower() for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._forms, self._raw_forms = forms, [form.encode() for form in forms]
        self._pattern = re.compile("|".join(map(re.escape, forms)), re.IGNORECASE)
        self._raw_pattern = re.compile(b"|".join(map(re.escape, self._raw_forms)), re.IGNORECASE)

    def text(self, text: str) -> str:
        """The text without the secrets."""
        # Few texts hold a secret, and this check is much faster than the case-insensitive pattern.
        lower = text.lower()
        return self._pattern.sub(MASK, text) if any(form in lower for form in self._forms) else text

    def raw(self, body: bytes) -> bytes:
        """The bytes without the secrets."""
        lower = body.lower()
        found = any(form in lower for form in self._raw_forms)
        return self._raw_pattern.sub(MASK.encode(), body) if found else body


def _forms(secret: str) -> set[str]:
    if len(secret) < SHORTEST:
        return set()
    once = {secret, quote(secret, safe=""), quote_plus(secret)}
    twice = {quote(form, safe="") for form in once}
    return {written for form in once | twice for written in (form, json.dumps(form)[1:-1], html.escape(form))}
