"""Drift: the catalogue changes while it is read, so that movies move between pages."""

import json
from random import Random

from sandbox.emulator.catalog import Catalog
from sandbox.emulator.items import encode, to_movie


class Drift:
    """After every `every` pages of movies one movie gets another's title; every third time it is a new movie.

    The same pages in the same order meet the same changes. None: nothing changes.
    """

    def __init__(self, catalog: Catalog, every: int | None, seed: int) -> None:
        self.every = every
        self._catalog = catalog
        self._pages = self._changes = 0
        self._rng = Random(seed)  # noqa: S311 -- reproducible changes, not secrets

    def page_served(self, day: str) -> None:
        """Count a page, and change the catalogue when it is time, as a change of that ISO day."""
        self._pages += 1
        if not self.every or self._pages % self.every or not len(self._catalog):
            return
        self._changes += 1
        movies = self._catalog.movies()
        moved, other = self._rng.choice(movies), self._rng.choice(movies)
        item = json.loads(moved.raw)
        item |= {"title": other.title, "original_title": other.original_title}
        if self._changes % 3 == 0:
            item["id"] = max(movie.id for movie in movies) + 1
        self._catalog.replace([to_movie(item, encode(item))], [], day)
