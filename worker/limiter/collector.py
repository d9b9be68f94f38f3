"""The limiter's state as Prometheus metrics."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from worker.errors import RedisUnavailable
from worker.limiter.client import Limiter

#: Seconds that "used" looks back.
USED_S = 10


class LimiterCollector:
    """Reads the limiter's state on each scrape; without Redis there are no such metrics."""

    def __init__(self, limiter: Callable[[], Limiter]) -> None:
        self._limiter = limiter

    def collect(self) -> Iterator[Any]:
        try:
            state = self._limiter().state()
        except RedisUnavailable:
            return
        for name, help_text, value in (
            ("open", "1 when requests are let through.", float(not state.closed_reason)),
            ("requests_per_second", "Requests per second that are allowed now.", state.current_per_s),
            ("used", f"Share of the configured rate used in {USED_S} s.", state.utilisation(USED_S)),
        ):
            yield GaugeMetricFamily(f"reelhaul_limiter_{name}", help_text, value=value)
