"""What slows a run down, and what would help, computed from what the workers measured. Pure."""

import math
from collections.abc import Mapping, Sequence

from worker.limiter.state import LimiterState
from worker.monitoring.stats import ProcessStats

#: Seconds over which requests are counted.
LATELY_S = 10
#: The limit counts as reached when this share of it is used.
REACHED = 0.95
#: A core counts as fully used from this share on; one process runs Python on one core.
FULL = 0.85
#: Shares of the threads' time above this are worth mentioning.
NOTABLE = 0.3


def bottleneck(limiter: LimiterState, fleet: Sequence[ProcessStats], waiting: Mapping[str, int]) -> str:
    """One line: what slows the run down, and what to do. `waiting`: messages in queues and with workers."""
    if limiter.closed_reason:
        return f"the limiter is closed: {limiter.closed_reason}"
    if not fleet:
        return "no worker runs: start some"
    lately, allowed = limiter.granted_per_s(LATELY_S), limiter.current_per_s
    if lately >= REACHED * allowed:
        used = f"{lately:.1f} of {allowed:.4g} requests/s"
        return f"API limit: {used}; the limit is reached: more workers will not help"
    if not sum(waiting.values()):
        return "nothing: no page waits"
    return _below_the_limit(allowed, fleet)


def _below_the_limit(allowed: float, fleet: Sequence[ProcessStats]) -> str:
    threads = sum(process.concurrency for process in fleet)
    share = {
        kind: sum(getattr(process, kind) * process.concurrency for process in fleet) / threads
        for kind in ("token", "connection", "fetch", "store", "task")
    }
    saved = sum(process.saved_per_s for process in fleet)
    if share["connection"] > NOTABLE:
        return (
            "connections: threads wait for one of REELHAUL_CONNECTIONS; start workers on another host, "
            "or lower the concurrency without loss"
        )
    if full := sum(process.cpu >= FULL for process in fleet):
        return (
            f"worker CPU: {full} of {len(fleet)} processes use a whole core; start more processes "
            "with a lower concurrency each, on idle cores"
        )
    if share["task"] < 1 - NOTABLE:
        return (
            f"broker: threads are idle for {1 - share['task']:.0%} of their time though pages wait; "
            "check Redis and the network to it"
        )
    if share["store"] > share["fetch"]:
        each_ms = 1000 * share["store"] * threads / saved if saved else math.inf
        return (
            f"MongoDB: storing takes {each_ms:.0f} ms per page, longer than fetching; "
            "check its disk and the network to it"
        )
    return _concurrency(allowed, threads, saved, share)


def _concurrency(allowed: float, threads: int, saved: float, share: Mapping[str, float]) -> str:
    """How many threads reach the limit, if each is busy except while it waits for a token."""
    if not saved:
        return "latency: nothing was stored in the last seconds; check a worker's log"
    busy_s = (share["task"] - share["token"]) * threads / saved
    more = math.ceil(allowed * busy_s) - threads
    if more <= 0:
        return f"nothing for long: a concurrency of {threads} is enough for {allowed:.4g}/s"
    return f"concurrency: a page takes {1000 * busy_s:.0f} ms, {threads} threads are too few; add {more}"
