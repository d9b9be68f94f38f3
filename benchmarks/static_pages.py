"""Pages of 13 KB with 20 movies each, each movie on one page: `python -m benchmarks.static_pages PORT`.

Quicker than the emulator, so that what is measured is what fetches.
"""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.embedded import HOST

MOVIES, LAST_PAGE = 20, 500
#: Long enough for pages of 13 KB, as TMDB's are on average.
OVERVIEW = "A captain hauls reels of film across an ocean, and what is on them changes at night. " * 4


def item(number: int) -> str:
    """A movie as /discover/movie lists it."""
    movie = {
        "adult": False,
        "backdrop_path": "/8Zq3kXcYVwWnCJ5r1mHnTq9sGpB.jpg",
        "genre_ids": [18, 53, 878],
        "id": number,
        "original_language": "en",
        "original_title": f"The Captainés Reel {number}",
        "overview": OVERVIEW,
        "popularity": 41.3712,
        "poster_path": "/kUd7pXh2m9VfQb5LzYt0aReJcGw.jpg",
        "release_date": "1999-05-15",
        "title": f"The Captainés Reel {number}",
        "video": False,
        "vote_average": 6.913,
        "vote_count": 1874,
    }
    return json.dumps(movie, ensure_ascii=False, separators=(",", ":"))


_MOVIE = item(0).replace('"id":0', '"id":%d').replace("Reel 0", "Reel %d")
_PAGE = '{"page":%d,"results":[' + ",".join([_MOVIE] * MOVIES) + '],"total_pages":500,"total_results":10000}'


def body(genre_id: int, year: int, page: int) -> bytes:
    """The page; its movies are on no other page."""
    first = ((genre_id % 100 * 200 + year % 200) * LAST_PAGE + page) * MOVIES
    numbers = (number for number in range(first, first + MOVIES) for _ in range(3))
    return (_PAGE % (page, *numbers)).encode()


class _Server(asyncio.Protocol):
    """Enough of HTTP/1.1 for GETs without pipelining."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._received = transport, b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(b"\r\n\r\n"):
            return
        path = self._received.split(b" ", 2)[1].decode()
        self._received = b""
        asked = {name: value for name, [value, *_] in parse_qs(urlsplit(path).query).items()}
        year = int((asked.get("primary_release_year") or asked["primary_release_date.gte"])[:4])
        page = body(int(asked["with_genres"]), year, int(asked["page"]))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(page)}\r\n\r\n"
        self._transport.write(head.encode() + page)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Server, HOST, port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
