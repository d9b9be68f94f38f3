"""Stored movies for analysis, as Arrow: pandas, polars and duckdb read it. Needs pymongo and pyarrow alone.

    pip install 'reelhaul[data]'

    import reelhaul
    table = reelhaul.movies("mongodb://127.0.0.1/reelhaul", genres=["Drama"], years=range(1990, 2027))
    frame = table.to_pandas()

May import: of worker, what needs nothing but the standard library.
"""

from reelhaul.errors import (
    Error,
    FetchFailed,
    InvalidArgument,
    NothingStored,
    StaleData,
    Unavailable,
    UnknownColumn,
    UnknownGenre,
)
from reelhaul.genres import genre_pairs, genres
from reelhaul.reading import details, iter_movies, iter_popular, movies, popular
from reelhaul.schema import Layout

__all__ = [
    "Error",
    "FetchFailed",
    "InvalidArgument",
    "Layout",
    "NothingStored",
    "StaleData",
    "Unavailable",
    "UnknownColumn",
    "UnknownGenre",
    "details",
    "genre_pairs",
    "genres",
    "iter_movies",
    "iter_popular",
    "movies",
    "popular",
]
