"""A TMDB with as many movies as anybody asks for: `python -m benchmarks.endless PORT PAGES`.

Every cell has PAGES pages of 20 movies, about 13 KB each; no movie is in two cells. It enforces no limit. The
emulator can do more, but a catalogue of four million movies would not fit beside the fleet.
"""

import json
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import requests
import uvicorn

from sandbox.embedded import HOST, EmbeddedServer
from sandbox.processes import ChildProcess

GENRES = range(1, 20)
PAGE_SIZE = 20
OVERVIEW = "A long way to go, and a longer way back. " * 8


class EndlessTmdb(EmbeddedServer):
    """The server as a process; every cell has `pages` pages."""

    name = "Endless"

    def __init__(self, pages: int) -> None:
        super().__init__()
        self._pages = pages

    @property
    def environment(self) -> dict[str, str]:
        return {"TMDB_BASE_URL": f"http://{HOST}:{self.port}/3"}

    def _command(self, port: int, folder: Path) -> list[str]:  # noqa: ARG002 -- it keeps no files
        return [sys.executable, "-m", "benchmarks.endless", str(port), str(self._pages)]

    def _answers(self, child: ChildProcess, port: int) -> bool:  # noqa: ARG002 -- the port was free
        try:
            return self._requests_at(port) >= 0
        except requests.RequestException:
            return False

    def requests_served(self) -> int:
        """How many requests it has answered."""
        return self._requests_at(self.port)

    def _requests_at(self, port: int) -> int:
        return int(requests.get(f"http://{HOST}:{port}/served", timeout=5).text)


class _App:
    """The ASGI application."""

    def __init__(self, pages: int) -> None:
        self._pages, self._served = pages, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 -- ASGI's signature
        path, query = scope["path"], parse_qs(scope["query_string"].decode())
        if path == "/served":
            body: Any = self._served
        else:
            self._served += 1
            body = self._answer(path, query)
        headers = [(b"content-type", b"application/json;charset=utf-8")]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    def _answer(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        if path.endswith("/genre/movie/list"):
            return {"genres": [{"id": genre, "name": f"Genre {genre}"} for genre in GENRES]}
        if path.endswith("/configuration"):
            return {"images": {"base_url": "http://image.tmdb.org/t/p/"}, "change_keys": []}
        genre, page = int(query["with_genres"][0]), int(query["page"][0])
        year = int(query["primary_release_date.gte"][0][:4])
        first = ((genre * 300 + year - 1850) * 500 + page) * PAGE_SIZE
        return {
            "page": page,
            "results": [movie(first + number, genre, year) for number in range(PAGE_SIZE)],
            "total_pages": self._pages,
            "total_results": self._pages * PAGE_SIZE,
        }


def movie(id_: int, genre: int, year: int) -> dict[str, Any]:
    """A list item as TMDB sends it."""
    return {
        "adult": False,
        "backdrop_path": f"/backdrop{id_}.jpg",
        "genre_ids": [genre],
        "id": id_,
        "original_language": "en",
        "original_title": f"Movie {id_}",
        "overview": OVERVIEW,
        "popularity": id_ % 1000 / 10,
        "poster_path": f"/poster{id_}.jpg",
        "release_date": f"{year}-06-01",
        "title": f"Movie {id_}",
        "video": False,
        "vote_average": 6.5,
        "vote_count": 100,
    }


if __name__ == "__main__":
    uvicorn.run(
        _App(int(sys.argv[2])), host=HOST, port=int(sys.argv[1]), log_level="warning", access_log=False
    )
