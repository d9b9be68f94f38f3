"""What holds a run back is named from figures alone, with what would help."""

from dataclasses import replace

import pytest

from producer.bottleneck import bottleneck
from worker.limiter.rate import Rate
from worker.limiter.state import LimiterState
from worker.monitoring.stats import ProcessStats

#: One worker with 16 slots that fetch all the time: 8 pages a second each take 2 s.
BUSY = ProcessStats(16, 8.0, gate=0.0, connection=0.0, fetch=0.9, store=0.05, task=0.97, cpu=0.2)
WAITING = {"refresh": 0, "pages": 400, "cells": 30, "unacked": 16}


def gate(per_s: float, shut: str = "", allowed: int = 40) -> LimiterState:
    """A gate that let so many a second through."""
    granted = {age: round(per_s) for age in range(1, 11)}
    return LimiterState(Rate(allowed, 1), 1.0, 0, 0.1, shut, False, None, 900, 0, granted)


def test_a_limit_that_is_used_up_is_not_helped_by_workers() -> None:
    told = bottleneck(gate(39), [replace(BUSY, gate=0.6, fetch=0.3)], WAITING)
    assert told == "API limit: 39.0 of 40 requests/s; the limit is reached: more workers will not help"


def test_slots_that_are_missing_are_counted() -> None:
    # A page takes 0.97 x 16 / 8 = 1.94 s: 40 of them a second are in the works in ceil(77.6) slots.
    told = bottleneck(gate(8), [BUSY], WAITING)
    assert told == "latency x slots: a page takes 1940 ms, 16 slots; add 62 more slots"
    half = replace(BUSY, slots=8, pages_per_s=4.0)
    assert bottleneck(gate(8), [half, half], WAITING) == told


@pytest.mark.parametrize(
    ("figures", "beginning"),
    [
        (replace(BUSY, cpu=0.97), "worker CPU: 1 of 1 processes use a whole core"),
        (replace(BUSY, fetch=0.2, store=0.7), "MongoDB: storing takes 1400 ms a page"),
        (replace(BUSY, fetch=0.2, task=0.4), "broker: slots are idle for 60% of their time"),
        (replace(BUSY, fetch=0.2, connection=0.7), "connections: slots wait for one of REELHAUL_CONNECTIONS"),
        (replace(BUSY, pages_per_s=0.0), "latency: no page was stored"),
        (replace(BUSY, pages_per_s=39.0), "nothing for long: 16 slots are enough"),
    ],
)
def test_each_of_the_others(figures: ProcessStats, beginning: str) -> None:
    assert bottleneck(gate(8), [figures], WAITING).startswith(beginning)


def test_what_stands_still_is_said_first() -> None:
    assert bottleneck(gate(0, "throttled"), [BUSY], WAITING) == "the gate is shut: throttled"
    assert bottleneck(gate(0), [], WAITING) == "no worker runs: start some"
    idle = replace(BUSY, pages_per_s=0.0, fetch=0.0, store=0.0, task=0.0)
    assert bottleneck(gate(0), [idle], dict.fromkeys(WAITING, 0)) == "nothing: no page waits"
