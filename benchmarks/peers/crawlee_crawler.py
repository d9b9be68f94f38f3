"""crawlee's HttpCrawler and pymongo's AsyncMongoClient; with a rate, its max_tasks_per_minute.

Its request queue is on disk, as is its default, and not purged at the start, so that it survives a kill; with
CRAWLEE_IN_MEMORY=1 in the environment it is in memory, which is faster.
"""

import asyncio
import os

from crawlee import ConcurrencySettings, Request, service_locator
from crawlee.configuration import Configuration
from crawlee.crawlers import HttpCrawler, HttpCrawlingContext
from crawlee.storage_clients import FileSystemStorageClient, MemoryStorageClient
from pymongo import AsyncMongoClient

from benchmarks.peers.common import ATTEMPTS, HEADERS, Job, documents, read_job, report


async def main(job: Job, *, in_memory: bool) -> None:
    service_locator.set_configuration(
        Configuration(storage_dir=str(job.folder / "crawlee"), purge_on_start=False)
    )
    service_locator.set_storage_client(MemoryStorageClient() if in_memory else FileSystemStorageClient())
    database = AsyncMongoClient(job.mongo_url).get_default_database()
    crawler = HttpCrawler(
        concurrency_settings=ConcurrencySettings(
            min_concurrency=job.concurrency,
            desired_concurrency=job.concurrency,
            max_concurrency=job.concurrency,
            max_tasks_per_minute=60 * job.rate if job.rate else float("inf"),
        ),
        max_request_retries=ATTEMPTS,
        max_session_rotations=ATTEMPTS,
        configure_logging=False,
    )

    @crawler.router.default_handler
    async def handle(context: HttpCrawlingContext) -> None:
        key = str(context.request.user_data["key"])
        movies, record = documents(key, await context.http_response.read())
        if movies:
            await database["movies"].bulk_write(movies, ordered=False)
        await database["pages"].replace_one({"_id": key}, record, upsert=True)

    requests = [
        Request.from_url(url, headers=HEADERS, user_data={"key": key}) for key, url in job.pages.items()
    ]
    ended = await crawler.run(requests, purge_request_queue=False)
    report(ended.requests_finished, sum(n - 1 for n in ended.retry_histogram))


if __name__ == "__main__":
    asyncio.run(main(read_job(), in_memory=bool(os.environ.get("CRAWLEE_IN_MEMORY"))))
