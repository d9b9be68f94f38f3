"""Requests for single movies: widened, fulfilled, removed."""

from datetime import UTC, datetime, timedelta

from worker.keys import MovieKey
from worker.storage.database import Storage
from worker.storage.movie_requests import MovieRequest

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = MovieKey(603)
HOUR = timedelta(hours=1)


def test_a_request_is_kept_until_fulfilled(storage: Storage) -> None:
    requests, plain = storage.movie_requests, MovieRequest(AT, details=False, append=())
    assert requests.get(603) is None
    assert requests.add([603, 604], AT) == 2
    assert requests.get(603) == plain
    assert (requests.count(), {key.movie_id for key in requests.first(9)}) == (2, {603, 604})
    requests.fulfil(KEY, plain)
    assert requests.get(603) is None
    assert requests.first(9) == [MovieKey(604)]


def test_a_second_request_widens_the_first(storage: Storage) -> None:
    storage.movie_requests.add([603], AT, details=True, append=["credits"])
    storage.movie_requests.add([603], AT - HOUR, append=["keywords"])
    assert storage.movie_requests.get(603) == MovieRequest(AT, details=True, append=("credits", "keywords"))


def test_a_request_widened_meanwhile_is_kept(storage: Storage) -> None:
    storage.movie_requests.add([603], AT)
    request = storage.movie_requests.get(603)
    assert request is not None
    storage.movie_requests.add([603], AT + HOUR)
    storage.movie_requests.fulfil(KEY, request)
    assert storage.movie_requests.get(603) == MovieRequest(AT + HOUR, details=False, append=())
    storage.movie_requests.remove(KEY)
    assert storage.movie_requests.get(603) is None
