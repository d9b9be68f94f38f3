"""What holds a run back, and what would help: from what the workers measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from worker.limiter.state import LimiterState
from worker.monitoring.stats import ProcessStats

#: Seconds of requests that are looked at.
LATELY_S = 10
#: The limit counts as reached when so much of it is used.
REACHED = 0.95
#: A processor's core counts as full: one process runs Python on one core.
FULL = 0.85
#: Shares of the slots' time that are worth a word.
NOTABLE = 0.3


def bottleneck(gate: LimiterState, fleet: Sequence[ProcessStats], waiting: Mapping[str, int]) -> str:
    """One line: what holds the run back, then what to do. `waiting`: messages by lane."""
    if gate.closed_reason:
        return f"the gate is shut: {gate.closed_reason}"
    if not fleet:
        return "no worker runs: start some"
    lately, allowed = gate.granted_per_s(LATELY_S), gate.current_per_s
    if lately >= REACHED * allowed:
        used = f"{lately:.1f} of {allowed:.4g} requests/s"
        return f"API limit: {used}; the limit is reached: more workers will not help"
    if not sum(waiting.values()) and not lately:
        return "nothing: no page waits"
    return _short_of_the_limit(allowed, fleet)


def _short_of_the_limit(allowed: float, fleet: Sequence[ProcessStats]) -> str:
    slots = sum(one.concurrency for one in fleet)
    share = {
        kind: sum(getattr(one, kind) * one.concurrency for one in fleet) / slots
        for kind in ("token", "connection", "fetch", "store", "task")
    }
    pages = sum(one.pages_per_s for one in fleet)
    if share["connection"] > NOTABLE:
        return (
            "connections: slots wait for one of REELHAUL_CONNECTIONS; start workers on another host, "
            "fewer slots lose nothing"
        )
    full = sum(one.cpu >= FULL for one in fleet)
    if full:
        return (
            f"worker CPU: {full} of {len(fleet)} processes use a whole core; start more processes "
            "with fewer slots each, on idle cores"
        )
    if share["task"] < 1 - NOTABLE:
        return (
            f"broker: slots are idle for {1 - share['task']:.0%} of their time though pages wait; "
            "look at Redis and the way there"
        )
    if share["store"] > share["fetch"]:
        each_ms = 1000 * share["store"] * slots / pages if pages else math.inf
        slow = f"storing takes {each_ms:.0f} ms a page, longer than fetching"
        return f"MongoDB: {slow}; look at its disk and the way there"
    return _slots(allowed, slots, pages, share)


def _slots(allowed: float, slots: int, pages: float, share: Mapping[str, float]) -> str:
    """A slot is busy for a page's whole time but the wait at the gate: so many slots make up the limit."""
    if not pages:
        return "latency: no page was stored in the last seconds; look at the log of a worker"
    each_s = (share["task"] - share["token"]) * slots / pages
    more = math.ceil(allowed * each_s) - slots
    if more <= 0:
        return f"nothing for long: {slots} slots are enough for {allowed:.4g}/s"
    return f"latency x slots: a page takes {1000 * each_s:.0f} ms, {slots} slots; add {more} more slots"
