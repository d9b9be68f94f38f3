"""Secrets go, whatever a server has made of them, and nothing else does."""

import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from worker.monitoring.redaction import MASK, Redactor

#: As TMDB's are, and one with all that addresses, JSON and HTML write otherwise.
SECRETS = ["0b7e6d1f0b7e6d1f0b7e6d1f0b7e6d1f", "eyJhbGciOi.eyJhdWQi-_.x0", 'a+b/c=d&e"f%g h\\i<j']
WAYS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "in an address": lambda secret: quote(secret, safe=""),
    "in a query": quote_plus,
    "in an address, in small letters": lambda secret: quote(secret, safe="").lower(),
    "in an address within an address": lambda secret: quote(quote(secret, safe=""), safe=""),
    "in a query within an address": lambda secret: quote(quote_plus(secret), safe=""),
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in HTML": html.escape,
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_gone_however_it_is_written(secret: str, way: str) -> None:
    redactor = Redactor("another-secret", secret)
    written = f"/3/discover?api_key={WAYS[way](secret)}&page=1"
    assert redactor.text(written) == f"/3/discover?api_key={MASK}&page=1"
    assert redactor.raw(written.encode()) == f"/3/discover?api_key={MASK}&page=1".encode()


def test_everything_else_stays_as_it_was() -> None:
    text = "Öl & Wasser, short %2F ☃ " + SECRETS[0][:-1]
    for redactor in (Redactor(*SECRETS), Redactor(), Redactor("", "short")):
        assert redactor.text(text) == text
        assert redactor.raw(text.encode() + b"\xff\0") == text.encode() + b"\xff\0"
