"""The same spider with scrapy-redis' scheduler and duplicate filter: queue and seen pages live in Redis."""

from benchmarks.peers.common import read_job
from benchmarks.peers.scrapy_spider import crawl, settings

if __name__ == "__main__":
    given = read_job()
    crawl(
        given,
        {
            **settings(given),
            "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
            "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
            "SCHEDULER_PERSIST": True,
            # Pages that another process has taken may come back; and the queue begins empty.
            "SCHEDULER_IDLE_BEFORE_CLOSE": 1,
            "REDIS_URL": given.redis_url,
        },
    )
