"""What the edge counts. Plain integers on the hot path; Prometheus reads them when it scrapes.

(A `prometheus_client` counter costs a lock per increment, which the hot path would feel.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class EdgeMetrics(Collector):
    """Counts of the hot paths; other parts add gauges that are read at scrape time."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self._bucket_counts = [0] * (len(BUCKETS_S) + 1)
        self._seconds = 0.0
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def count(self, route: str, status: int) -> None:
        """One answer of a route."""
        key = (route, status)
        self.answers[key] = self.answers.get(key, 0) + 1

    def observe(self, seconds: float) -> None:
        """How long a check-in took, from its body to its answer."""
        self._bucket_counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds += seconds

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Adds a value that is read at scrape time."""
        self._gauges.append((name, help_text, read))

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus' client."""
        answers = CounterMetricFamily(
            "mastervip_edge_answers", "Answers by route and status", labels=["route", "status"]
        )
        for (route, status), count in self.answers.items():
            answers.add_metric([route, str(status)], count)
        yield answers
        cumulated: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self._bucket_counts, strict=True):
            total += count
            cumulated.append((bound, total))
        latency = HistogramMetricFamily("mastervip_checkin_seconds", "Time of a check-in over REST in the gateway")
        latency.add_metric([], cumulated, self._seconds)
        yield latency
        for name, help_text, read in self._gauges:
            yield GaugeMetricFamily(name, help_text, read())

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
