"""aiohttp and pymongo's AsyncMongoClient; with a rate, aiolimiter's AsyncLimiter(rate, 1)."""

import asyncio
from contextlib import nullcontext

import aiohttp
from aiolimiter import AsyncLimiter
from pymongo import AsyncMongoClient

from benchmarks.peers.common import HEADERS, REFUSED, Job, documents, read_job, report, retry_after_s


async def main(job: Job) -> None:
    """`concurrency` coroutines take keys from one list until it is empty."""
    database = AsyncMongoClient(job.mongo_url).get_default_database()
    done = {record["_id"] async for record in database["pages"].find({}, {"_id": 1})}
    keys = iter([key for key in job.pages if key not in done])
    limiter = AsyncLimiter(job.rate, 1) if job.rate else nullcontext()
    counts = {"fetched": 0, "refused": 0}

    async def fetch(session: aiohttp.ClientSession, key: str) -> bytes:
        while True:
            async with limiter, session.get(job.pages[key]) as response:
                if response.status != REFUSED:
                    response.raise_for_status()
                    return await response.read()
                counts["refused"] += 1
            await asyncio.sleep(retry_after_s(response.headers))

    async def work(session: aiohttp.ClientSession) -> None:
        for key in keys:
            movies, record = documents(key, await fetch(session, key))
            if movies:
                await database["movies"].bulk_write(movies, ordered=False)
            await database["pages"].replace_one({"_id": key}, record, upsert=True)
            counts["fetched"] += 1

    async with aiohttp.ClientSession(headers=HEADERS) as session:
        await asyncio.gather(*(work(session) for _ in range(job.concurrency)))
    report(**counts)


if __name__ == "__main__":
    asyncio.run(main(read_job()))
