"""requests in a pool of threads, and pymongo: the loop that people write."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from pymongo import MongoClient

from benchmarks.peers.common import HEADERS, REFUSED, Job, read_job, report, retry_after_s, save, stored_pages


def main(job: Job) -> None:
    """With a rate, each thread sleeps after its request, so that all threads together stay below it."""
    database = MongoClient(job.mongo_url).get_default_database()
    local = threading.local()
    pause_s = job.concurrency / job.rate if job.rate else 0.0
    done = stored_pages(database)

    def fetch(key: str) -> int:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.headers.update(HEADERS)
        refused = 0
        while True:
            response = local.session.get(job.pages[key], timeout=10)
            if pause_s:
                time.sleep(pause_s)
            if response.status_code != REFUSED:
                break
            refused += 1
            time.sleep(retry_after_s(response.headers))
        response.raise_for_status()
        save(database, key, response.content)
        return refused

    with ThreadPoolExecutor(job.concurrency) as pool:
        refusals = list(pool.map(fetch, [key for key in job.pages if key not in done]))
    report(len(refusals), sum(refusals))


if __name__ == "__main__":
    main(read_job())
