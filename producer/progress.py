"""How far each request is, computed from what is stored."""

from producer.coverage import CoverageIndex
from producer.enqueue import all_requests
from producer.requests.request import Progress, Request
from worker.settings import settings
from worker.storage.database import Storage


def measure(storage: Storage, request: Request) -> Progress:
    """The request's progress now."""
    moment = request.fresh_after
    return request.progress(storage, CoverageIndex.read(storage, [moment])[moment])


def measure_all(storage: Storage) -> list[Progress]:
    """Progress of every request, the latest first; page records are read once for all."""
    requests = all_requests(storage)
    if not requests:
        return []
    # What has passed the retention no longer counts, even for a backfill that accepts any age.
    retained_since = storage.mongo.now() - settings().reelhaul_retention
    moments = [max(request.fresh_after or retained_since, retained_since) for request in requests]
    indexes = CoverageIndex.read(storage, moments)
    active = set(storage.requests.active_ids())
    found = []
    for request, moment in zip(requests, moments, strict=True):
        found.append(request.progress(storage, indexes[moment]))
        found[-1].cancelled = request.id not in active
    return found
