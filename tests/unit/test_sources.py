"""Names of where a list of ids came from."""

import pytest

from producer.sources import named_source
from worker.errors import UsageError


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("some/folder/movie_ids_05_15_2026.json.gz", "movie_ids_05_15_2026.json.gz"),
        ("https://user:secret@files.example:8443/p/a.gz?key=secret#x", "https://files.example:8443/p/a.gz"),
        ("HTTP://Files.Example/a", "http://files.example/a"),
    ],
)
def test_the_name_of_a_source_holds_no_secret(source: str, named: str) -> None:
    assert named_source(source) == named


@pytest.mark.parametrize("source", ["http:///a", "http://[::1/a", "http://host:port/a"])
def test_an_invalid_address_is_rejected_and_not_repeated(source: str) -> None:
    with pytest.raises(UsageError, match="the address of the list"):
        named_source(source)
