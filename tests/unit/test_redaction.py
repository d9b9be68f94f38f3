"""Redaction: secrets are replaced in every form in which a server may write them; other text is not."""

import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from worker.monitoring.redaction import MASK, Redactor

#: Two like TMDB's, and one with every character that URLs, JSON or HTML escape.
SECRETS = ["0b7e6d1f0b7e6d1f0b7e6d1f0b7e6d1f", "eyJhbGciOi.eyJhdWQi-_.x0", 'a+b/c=d&e"f%g h\\i<j']
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in upper case": str.upper,
    "in a URL": lambda secret: quote(secret, safe=""),
    "in a query": quote_plus,
    "in a URL, in lower case": lambda secret: quote(secret, safe="").lower(),
    "in a URL within a URL": lambda secret: quote(quote(secret, safe=""), safe=""),
    "in a query within a URL": lambda secret: quote(quote_plus(secret), safe=""),
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in HTML": html.escape,
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", FORMS)
def test_secret_is_replaced_in_every_form(secret: str, form: str) -> None:
    redactor = Redactor("another-secret", secret)
    written = f"/3/discover?api_key={FORMS[form](secret)}&page=1"
    assert redactor.text(written) == f"/3/discover?api_key={MASK}&page=1"
    assert redactor.raw(written.encode()) == f"/3/discover?api_key={MASK}&page=1".encode()


def test_other_text_is_unchanged() -> None:
    text = "Öl & Wasser, short %2F ☃ " + SECRETS[0][:-1]
    for redactor in (Redactor(*SECRETS), Redactor(), Redactor("", "short")):
        assert redactor.text(text) == text
        assert redactor.raw(text.encode() + b"\xff\0") == text.encode() + b"\xff\0"
