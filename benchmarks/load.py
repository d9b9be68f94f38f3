"""One process that fetches as fast as the gate lets it: `python -m benchmarks.load REDIS_URL BASE_URL KEY`.

Its requests name it in the arrival log: its number is the genre. SIGTERM ends it as a worker ends.
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
from worker.tmdb.session import build_session

#: No catalogue has so high a genre: pages are small, and the log tells the processes apart.
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
        options.gate,
    )
    session = build_session("token", options.threads, options.base_url)
    client = TmdbClient(session, options.base_url, limiter, options.timeout_s, {})
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
            thread.join(0.2)  # signals are handled between two joins


def _fetch(client: TmdbClient, limiter: Limiter, genre_id: int, pages: itertools.count[int]) -> None:
    """What worker.tasks.obtain does, without storing."""
    while True:
        number = next(pages)
        key = PageKey(genre_id, str(1900 + number // MAX_PAGE % 200), number % MAX_PAGE + 1)
        try:
            client.discover(key, time.monotonic() + WAIT_S)
        except Stopping:
            return
        except RedisUnavailable:
            try:
                limiter.sleep(0.1)
            except Stopping:
                return
        except NotNow as trouble:
            if not isinstance(trouble, ApiFailure):
                print(f"{type(trouble).__name__}: {trouble}", file=sys.stderr, flush=True)


def _shift_clock(offset_s: float) -> None:
    """As if this machine's clocks were wrong: both the wall's and the monotonic one."""
    wall, monotonic = time.time, time.monotonic
    time.time = lambda: wall() + offset_s
    time.monotonic = lambda: monotonic() + offset_s


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("redis_url")
    parser.add_argument("base_url")
    parser.add_argument("gate")
    parser.add_argument("--number", type=int, default=0, help="of this process")
    parser.add_argument("--rate", default="40/s")
    parser.add_argument("--capacity", type=int, default=5)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--timeout-s", type=float, default=8.0)
    parser.add_argument("--clock-offset-s", type=float, default=0.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
