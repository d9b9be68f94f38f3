"""The fleet adapts to an unknown limit: the real script and the emulator's bucket, in virtual time."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from sandbox.emulator.limit import RequestLimit
from tests.support.virtual_limiter import EPOCH_US, SECOND, VirtualLimiter
from worker.limiter.rate import Rate

LATENCY_US, CHANNEL_US, PAUSE_US = 150_000, 2_000, SECOND
#: The fleet has adapted this long after the start, and after each change of the limit.
SETTLED_S = 60
CAPACITY = 5


class Simulation:
    """`threads` that fetch without end; TMDB's `limits` are [(from second, requests per second), ...]."""

    def __init__(
        self, client: redis.Redis, rate: Rate, limits: list[tuple[int, float]], threads: int
    ) -> None:
        self.limiter = VirtualLimiter(client, rate, CAPACITY)
        self.limits, self.threads = limits, threads
        self.accepted: list[int] = []
        self.refused: list[int] = []
        self._events: list[tuple[int, int, str, int, Any]] = []
        self._order = itertools.count()
        self._turn = [0] * threads
        self._generation = [0] * threads
        self._noise = random.Random(1)  # noqa: S311 -- jitter, no secret

    def run(self, seconds: int) -> None:
        self.accepted, self.refused = [0] * seconds, [0] * seconds
        bucket, changes = RequestLimit(), list(self.limits)
        happens: dict[str, Callable[[int, Any], None]]
        happens = {"ask": self._ask, "wake": self._wake, "answer": self._answer, "publish": self._publish}
        for thread in range(self.threads):
            self._at(EPOCH_US + thread, "ask", thread)
        while self._events[0][0] < EPOCH_US + seconds * SECOND:
            self.limiter.now, _, what, thread, known = heapq.heappop(self._events)
            second = (self.limiter.now - EPOCH_US) // SECOND
            if changes and second >= changes[0][0]:
                rate = changes.pop(0)[1]
                bucket = RequestLimit(rate, CAPACITY + max(1.0, 0.1 * rate))
            if what == "arrive":
                passed = bucket.admit((self.limiter.now - EPOCH_US) / SECOND)
                (self.accepted if passed else self.refused)[second] += 1
                self._at(self.limiter.now + LATENCY_US, "answer", thread, (passed, known))
            else:
                happens[what](thread, known)

    def settled(self) -> tuple[float, float]:
        """Once adapted: accepted requests per allowed one, and the share of requests refused."""
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

    def _at(self, when: int, what: str, thread: int, known: Any = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, thread, known))

    def _ask(self, thread: int, _: Any) -> None:
        verdict, wait, generation = self.limiter.reserve()
        self._turn[thread] += 1
        self._generation[thread] = generation
        self._at(self.limiter.now + wait, "wake", thread, (self._turn[thread], verdict, generation))

    def _wake(self, thread: int, known: tuple[int, str, int]) -> None:
        turn, verdict, generation = known
        if turn != self._turn[thread]:
            return
        self._turn[thread] += 1  # nothing can void it now
        if verdict == "closed":
            self._ask(thread, None)
        else:
            late = int(self._noise.expovariate(1 / 2_000))
            self._at(self.limiter.now + late, "arrive", thread, generation)

    def _answer(self, thread: int, known: tuple[bool, int]) -> None:
        passed, generation = known
        if not passed:
            begun = int(self.limiter.call("refused", generation, PAUSE_US))
            self._at(self.limiter.now + CHANNEL_US, "publish", 0, begun)
        self._ask(thread, None)

    def _publish(self, _: int, begun: int) -> None:
        waiting = {(thread, known[0]) for _, _, what, thread, known in self._events if what == "wake"}
        for thread, turn in enumerate(list(self._turn)):
            if self._generation[thread] < begun and (thread, turn) in waiting:
                self._ask(thread, None)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.parametrize(
    ("rate", "limits", "threads"),
    [
        ("40/s", [(0, 20)], 100),
        ("20/s", [(0, 18)], 20),
        ("10/s", [(0, 5)], 16),
        ("20/s", [(0, 20), (90, 10), (180, 15), (270, 7.5)], 30),
    ],
    ids=["half, many threads", "nine tenths", "half of ten", "changes"],
)
def test_the_fleet_settles_below_an_unknown_limit(
    client: redis.Redis, rate: str, limits: list[tuple[int, float]], threads: int
) -> None:
    simulation = Simulation(client, Rate.parse(rate), limits, threads)
    simulation.run(360 if len(limits) > 1 else 180)
    used, refused = simulation.settled()
    assert used > 0.90
    assert refused < 0.01
