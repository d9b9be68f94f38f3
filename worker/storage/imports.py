"""Merges movies that come from a file: the same rules as for pages, but no page records.

So what an import brings never counts as a fetched page, and completeness stays what TMDB's pages prove.
"""

from collections.abc import Iterable
from datetime import datetime

import bson

from worker.storage.database import Storage
from worker.storage.merge import Saved, Version, merge, version_of
from worker.storage.mongo import EPOCH, Document, translate_errors

#: In place of the response that an error would quote: a file's lines are not kept.
_NO_BODY = b""


def check_storable(movie: Document) -> None:
    """Raise Unstorable when the movie has a field of ours, or one that BSON cannot hold; no round trip."""
    document = version_of(movie, EPOCH, "", _NO_BODY).document()
    with translate_errors(_NO_BODY):
        bson.encode(document)


def merge_imported(storage: Storage, movies: Iterable[Document], fetched_at: datetime, name: str) -> Saved:
    """Merge a batch (of at most Mongo.limits.ids) of list items; `name` is the file's.

    Raises MongoUnavailable, and Unstorable for what only the server finds out.
    """
    versions: dict[int, Version] = {}
    for movie in movies:
        version = version_of(movie, fetched_at, f"import:{name}", _NO_BODY)
        known = versions.get(movie["id"])
        if known is None or known.rank < version.rank:
            versions[movie["id"]] = version
    with translate_errors(_NO_BODY):
        return merge(storage.movies.collection, versions, storage.mongo.latest())
