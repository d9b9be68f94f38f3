"""A process that fetches as fast as the limiter allows: `python -m benchmarks.load REDIS_URL BASE_URL KEY`.

Its number is the genre of its requests, so that the arrival log names it. SIGTERM ends it as a worker.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import threading
import time

from redis import Redis

from worker.errors import ApiFailure, NotNow, RedisUnavailable, Stopping
from worker.keys import MAX_PAGE, PageKey
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate
from worker.tmdb.client import TmdbClient
from worker.tmdb.credentials import Credentials
from worker.tmdb.endpoints import discover
from worker.tmdb.session import build_session

#: Beyond every genre of a catalogue, so that pages are empty.
FIRST_GENRE = 100_000
WAIT_S = 30.0


def main() -> None:
    options = _options()
    if options.clock_offset_s:
        _shift_clock(options.clock_offset_s)
    limiter = Limiter(
        Redis.from_url(options.redis_url, socket_connect_timeout=3, socket_timeout=10),
        Rate.parse(options.rate),
        options.capacity,
        options.limiter_key,
    )
    credentials = Credentials("token")
    session = build_session(options.base_url, options.threads, credentials)
    client = TmdbClient(session, options.base_url, limiter, options.timeout_s, credentials)
    signal.signal(signal.SIGTERM, lambda *_: limiter.interrupt())
    pages = itertools.count()
    threads = [
        threading.Thread(target=_fetch, args=(client, limiter, FIRST_GENRE + options.number, pages))
        for _ in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # signals are handled between joins


def _fetch(client: TmdbClient, limiter: Limiter, genre_id: int, pages: itertools.count[int]) -> None:
    """Fetch as worker.tasks does, and store nothing."""
    while True:
        number = next(pages)
        key = PageKey(genre_id, str(1900 + number // MAX_PAGE % 200), number % MAX_PAGE + 1)
        try:
            client.get(key, discover, time.monotonic() + WAIT_S)
        except Stopping:
            return
        except RedisUnavailable:
            try:
                limiter.sleep(0.1)
            except Stopping:
                return
        except NotNow as error:
            if not isinstance(error, ApiFailure):
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)


def _shift_clock(offset_s: float) -> None:
    """Shift this process's wall clock and its monotonic clock."""
    wall, monotonic = time.time, time.monotonic
    time.time = lambda: wall() + offset_s
    time.monotonic = lambda: monotonic() + offset_s


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("redis_url")
    parser.add_argument("base_url")
    parser.add_argument("limiter_key")
    parser.add_argument("--number", type=int, default=0, help="of this process")
    parser.add_argument("--rate", default="40/s")
    parser.add_argument("--capacity", type=int, default=5)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--timeout-s", type=float, default=8.0)
    parser.add_argument("--clock-offset-s", type=float, default=0.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
