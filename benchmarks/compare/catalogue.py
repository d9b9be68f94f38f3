"""The movies of a comparison: 20 new ones on each page, about 13 KB a page."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

GENRE, GENRE_NAME = 18, "Drama"
FIRST_YEAR = 1950
PAGE_SIZE = 20
LETTERS = "etaoinshrdlu cmfwyp"


class Catalogue(NamedTuple):
    """`years` cells of one genre with `pages` pages each; no movie is on two pages."""

    years: int
    pages: int

    @property
    def size(self) -> int:
        return self.years * self.pages

    @property
    def last_year(self) -> int:
        return FIRST_YEAR + self.years - 1

    @property
    def keys(self) -> list[str]:
        """Page keys, first pages first, as a backfill finds them."""
        years = range(FIRST_YEAR, self.last_year + 1)
        return [f"{GENRE}:{year}:{page}" for page in range(1, self.pages + 1) for year in years]

    def movies(self) -> Iterator[dict[str, Any]]:
        """List items as TMDB's; their titles keep the order in which they are made."""
        chance = Random(13)  # noqa: S311 -- made-up movies, no secret
        for number in range(self.size * PAGE_SIZE):
            year = FIRST_YEAR + number // (self.pages * PAGE_SIZE)
            title = f"Movie {number:07}"
            yield {
                "adult": False,
                "backdrop_path": f"/{chance.getrandbits(128):032x}.jpg",
                "genre_ids": [GENRE, chance.choice((28, 35, 53, 10749))],
                "id": 100_000 + number,
                "original_language": "en",
                "original_title": title,
                "overview": "".join(chance.choices(LETTERS, k=300)).strip(),
                "popularity": round(chance.random() * 50, 3),
                "poster_path": f"/{chance.getrandbits(128):032x}.jpg",
                "release_date": f"{year}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
                "title": title,
                "video": False,
                "vote_average": round(chance.random() * 10, 1),
                "vote_count": chance.randint(0, 5_000),
            }

    def write(self, path: Path) -> Path:
        """As JSON Lines for the emulator."""
        path.write_text("".join(f"{json.dumps(movie)}\n" for movie in self.movies()))
        return path
