"""Loads TMDB's daily list of movie ids: from a file, from an address, or the newest that TMDB has."""

from datetime import date, datetime, timedelta

from producer.sources import Meter, NotPublished, named_source, opened, unmetered
from worker.errors import UsageError
from worker.storage.database import Storage
from worker.storage.id_export import LONGEST_LINE


def load_list(storage: Storage, source: str, at: datetime, meter: Meter = unmetered) -> tuple[int, str]:
    """Replace the loaded list; returns how many movies the new one has, and its name.

    `at`: now, by the fleet's clock. Raises UsageError, and keeps the list in use, when the new one cannot be
    had or is broken: NotPublished when nothing is at its address.
    """
    named = named_source(source)
    with opened(source, LONGEST_LINE, meter) as lines:
        return storage.id_export.load(lines, named, at), named


def load_latest(storage: Storage, base: str, at: datetime, meter: Meter = unmetered) -> tuple[int, str]:
    """As load_list, with TMDB's newest list below `base` (REELHAUL_IDS_URL): today's, else yesterday's."""
    today = at.date()
    try:
        return load_list(storage, address_of(base, today), at, meter)
    except NotPublished:
        pass  # TMDB has a day's list by 08:00 UTC
    try:
        return load_list(storage, address_of(base, today - timedelta(days=1)), at, meter)
    except NotPublished as error:
        raise UsageError(f"{error}; today's is not there either: is REELHAUL_IDS_URL right?") from None


def address_of(base: str, day: date) -> str:
    """Where TMDB puts a day's list (TMDB API reference, "Daily ID Exports")."""
    return f"{base}/movie_ids_{day:%m_%d_%Y}.json.gz"
