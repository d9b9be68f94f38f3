"""The fleet finds a limit that nobody told it: virtual time, the real script, the emulator's own bucket."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from sandbox.emulator.limit import RequestLimit
from tests.support.virtual_gate import EPOCH_US, SECOND, VirtualGate
from worker.limiter.rate import Rate

LATENCY_US, CHANNEL_US, PAUSE_US = 150_000, 2_000, SECOND
#: From here on the fleet has found its limit; so long after each change of it, too.
SETTLED_S = 60
CAPACITY = 5


class Simulation:
    """`slots` that fetch without end; the API's `limits` are [(from second, requests a second), ...]."""

    def __init__(self, client: redis.Redis, rate: Rate, limits: list[tuple[int, float]], slots: int) -> None:
        self.gate = VirtualGate(client, rate, CAPACITY)
        self.limits, self.slots = limits, slots
        self.accepted: list[int] = []
        self.refused: list[int] = []
        self._events: list[tuple[int, int, str, int, Any]] = []
        self._order = itertools.count()
        self._turn = [0] * slots
        self._generation = [0] * slots
        self._noise = random.Random(1)  # noqa: S311 -- jitter, no secret

    def run(self, seconds: int) -> None:
        self.accepted, self.refused = [0] * seconds, [0] * seconds
        bucket, changes = RequestLimit(), list(self.limits)
        happens: dict[str, Callable[[int, Any], None]]
        happens = {"ask": self._ask, "wake": self._wake, "answer": self._answer, "hear": self._hear}
        for slot in range(self.slots):
            self._at(EPOCH_US + slot, "ask", slot)
        while self._events[0][0] < EPOCH_US + seconds * SECOND:
            self.gate.now, _, what, slot, known = heapq.heappop(self._events)
            second = (self.gate.now - EPOCH_US) // SECOND
            if changes and second >= changes[0][0]:
                rate = changes.pop(0)[1]
                bucket = RequestLimit(rate, CAPACITY + max(1.0, 0.1 * rate))
            if what == "arrive":
                passed = bucket.admit((self.gate.now - EPOCH_US) / SECOND)
                (self.accepted if passed else self.refused)[second] += 1
                self._at(self.gate.now + LATENCY_US, "answer", slot, (passed, known))
            else:
                happens[what](slot, known)

    def settled(self) -> tuple[float, float]:
        """Accepted by what the API allows, and refused by all: without what follows a change."""
        judged = [
            (second, rate)
            for (begin, rate), end in zip(
                self.limits, [at for at, _ in self.limits[1:]] + [len(self.accepted)], strict=True
            )
            for second in range(begin + SETTLED_S, end)
        ]
        accepted = sum(self.accepted[second] for second, _ in judged)
        refused = sum(self.refused[second] for second, _ in judged)
        return accepted / sum(rate for _, rate in judged), refused / (accepted + refused)

    def _at(self, when: int, what: str, slot: int, known: Any = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, slot, known))

    def _ask(self, slot: int, _: Any) -> None:
        verdict, wait, generation = self.gate.reserve()
        self._turn[slot] += 1
        self._generation[slot] = generation
        self._at(self.gate.now + wait, "wake", slot, (self._turn[slot], verdict, generation))

    def _wake(self, slot: int, known: tuple[int, str, int]) -> None:
        turn, verdict, generation = known
        if turn != self._turn[slot]:
            return
        self._turn[slot] += 1  # nothing can void it now
        if verdict == "closed":
            self._ask(slot, None)
        else:
            late = int(self._noise.expovariate(1 / 2_000))
            self._at(self.gate.now + late, "arrive", slot, generation)

    def _answer(self, slot: int, known: tuple[bool, int]) -> None:
        passed, generation = known
        if not passed:
            begun = int(self.gate.call("throttled", generation, PAUSE_US))
            self._at(self.gate.now + CHANNEL_US, "hear", 0, begun)
        self._ask(slot, None)

    def _hear(self, _: int, begun: int) -> None:
        waiting = {(slot, known[0]) for _, _, what, slot, known in self._events if what == "wake"}
        for slot, turn in enumerate(list(self._turn)):
            if self._generation[slot] < begun and (slot, turn) in waiting:
                self._ask(slot, None)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.parametrize(
    ("rate", "limits", "slots"),
    [
        ("40/s", [(0, 20)], 100),
        ("20/s", [(0, 18)], 20),
        ("10/s", [(0, 5)], 16),
        ("20/s", [(0, 20), (90, 10), (180, 15), (270, 7.5)], 30),
    ],
    ids=["half, many slots", "nine tenths", "half of ten", "changes"],
)
def test_the_fleet_settles_below_a_limit_that_it_was_not_told(
    client: redis.Redis, rate: str, limits: list[tuple[int, float]], slots: int
) -> None:
    simulation = Simulation(client, Rate.parse(rate), limits, slots)
    simulation.run(360 if len(limits) > 1 else 180)
    used, refused = simulation.settled()
    assert used > 0.90
    assert refused < 0.01
