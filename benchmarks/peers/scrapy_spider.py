"""Scrapy with a MongoDB pipeline as in its documentation; with a rate, DOWNLOAD_DELAY.

JOBDIR keeps its queue.
"""

from collections.abc import AsyncIterator
from typing import Any

import scrapy
from pymongo import MongoClient
from scrapy.crawler import CrawlerProcess
from scrapy.http import Response

from benchmarks.peers.common import ATTEMPTS, HEADERS, Job, read_job, report, save


class MongoPipeline:
    """An item is a whole page, stored with two round trips; an item a movie would need 20."""

    def __init__(self, mongo_url: str) -> None:
        self.mongo_url = mongo_url

    @classmethod
    def from_crawler(cls, crawler: Any) -> "MongoPipeline":
        return cls(crawler.settings["MONGO_URL"])

    def open_spider(self) -> None:
        self.client: MongoClient[dict[str, Any]] = MongoClient(self.mongo_url)
        self.database = self.client.get_default_database()

    def close_spider(self) -> None:
        self.client.close()

    def process_item(self, item: dict[str, Any]) -> dict[str, Any]:
        save(self.database, item["key"], item.pop("body"))
        return item


class DiscoverSpider(scrapy.Spider):
    name = "discover"
    pages: dict[str, str]

    async def start(self) -> AsyncIterator[scrapy.Request]:
        for key, url in self.pages.items():
            yield scrapy.Request(url, headers=HEADERS, cb_kwargs={"key": key})

    def parse(self, response: Response, key: str) -> dict[str, Any]:
        return {"key": key, "body": response.body}


def settings(job: Job) -> dict[str, Any]:
    """What Scrapy's documentation recommends for an API of one host."""
    chosen: dict[str, Any] = {
        "MONGO_URL": job.mongo_url,
        "ITEM_PIPELINES": {MongoPipeline: 300},
        "CONCURRENT_REQUESTS": job.concurrency,
        "CONCURRENT_REQUESTS_PER_DOMAIN": job.concurrency,
        "RETRY_TIMES": ATTEMPTS,
        "ROBOTSTXT_OBEY": False,
        "COOKIES_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        # Items are printed at DEBUG.
        "LOG_LEVEL": "INFO",
    }
    if job.rate:
        chosen |= {"DOWNLOAD_DELAY": 1 / job.rate}
    return chosen


def crawl(job: Job, chosen: dict[str, Any]) -> None:
    process = CrawlerProcess(chosen)
    crawler = process.create_crawler(DiscoverSpider)
    process.crawl(crawler, pages=job.pages)
    process.start()
    counts = crawler.stats.get_stats()
    report(counts.get("item_scraped_count", 0), counts.get("downloader/response_status_count/429", 0))


if __name__ == "__main__":
    given = read_job()
    crawl(given, {**settings(given), "JOBDIR": str(given.folder / "job")})
