"""What slows a run down is named from the measured stats alone, with what would help."""

from dataclasses import replace

import pytest

from producer.bottleneck import bottleneck
from worker.limiter.rate import Rate
from worker.limiter.state import LimiterState
from worker.monitoring.stats import ProcessStats

#: One worker whose 16 threads fetch all the time: 8 pages a second take 2 s each.
BUSY = ProcessStats(16, 8.0, token=0.0, connection=0.0, fetch=0.9, store=0.05, task=0.97, cpu=0.2)
WAITING = {"refresh": 0, "pages": 400, "cells": 30, "unacked": 16}


def limiter(granted_per_s: float, closed_reason: str = "") -> LimiterState:
    granted = {age: round(granted_per_s) for age in range(1, 11)}
    return LimiterState(Rate(40, 1), 1.0, 0, 0.1, closed_reason, False, None, 900, 0, granted)


def test_more_workers_do_not_help_when_the_limit_is_reached() -> None:
    line = bottleneck(limiter(39), [replace(BUSY, token=0.6, fetch=0.3)], WAITING)
    assert line == "API limit: 39.0 of 40 requests/s; the limit is reached: more workers will not help"


def test_missing_threads_are_counted() -> None:
    # A page takes 0.97 x 16 / 8 = 1.94 s: for 40 pages a second ceil(77.6) threads are needed.
    line = bottleneck(limiter(8), [BUSY], WAITING)
    assert line == "concurrency: a page takes 1940 ms, 16 threads are too few; add 62"
    half = replace(BUSY, concurrency=8, saved_per_s=4.0)
    assert bottleneck(limiter(8), [half, half], WAITING) == line


@pytest.mark.parametrize(
    ("stats", "beginning"),
    [
        (replace(BUSY, cpu=0.97), "worker CPU: 1 of 1 processes use a whole core"),
        (replace(BUSY, fetch=0.2, store=0.7), "MongoDB: storing takes 1400 ms per page"),
        (replace(BUSY, fetch=0.2, task=0.4), "broker: threads are idle for 60% of their time"),
        (
            replace(BUSY, fetch=0.2, connection=0.7),
            "connections: threads wait for one of REELHAUL_CONNECTIONS",
        ),
        (replace(BUSY, saved_per_s=0.0), "latency: nothing was stored"),
        (replace(BUSY, saved_per_s=39.0), "nothing for long: a concurrency of 16 is enough"),
    ],
)
def test_each_other_bottleneck_is_named(stats: ProcessStats, beginning: str) -> None:
    assert bottleneck(limiter(8), [stats], WAITING).startswith(beginning)


def test_what_stops_everything_comes_first() -> None:
    assert bottleneck(limiter(0, "throttled"), [BUSY], WAITING) == "the limiter is closed: throttled"
    assert bottleneck(limiter(0), [], WAITING) == "no worker runs: start some"
    idle = replace(BUSY, saved_per_s=0.0, fetch=0.0, store=0.0, task=0.0)
    for just_sent in (0, 8):  # the last requests of a run that has ended
        assert bottleneck(limiter(just_sent), [idle], dict.fromkeys(WAITING, 0)) == "nothing: no page waits"
