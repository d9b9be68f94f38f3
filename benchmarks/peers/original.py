"""The script that all this began with: one request after another, half a second between two."""

import time

import requests
from pymongo import MongoClient

from benchmarks.peers.common import HEADERS, Job, read_job, report, save

PAUSE_S = 0.5


def main(job: Job) -> None:
    database = MongoClient(job.mongo_url).get_default_database()
    for key, url in job.pages.items():
        response = requests.get(url, headers=HEADERS, timeout=10)
        response.raise_for_status()
        save(database, key, response.content)
        time.sleep(PAUSE_S)
    report(len(job.pages), 0)


if __name__ == "__main__":
    main(read_job())
