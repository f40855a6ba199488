"""Numbers for Prometheus: how long requests take, how many wait, how large batches are, what is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
GONE = 499  # what nginx says of a client that has hung up
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "retriever_request_seconds",
            "Time of a request.",
            ["method", "route", "status"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._waits = Histogram(
            "retriever_wait_seconds", "Time in a queue.", ["queue"], buckets=SECONDS, registry=self.registry
        )
        self._sizes = Histogram(
            "retriever_batch_size", "Inputs of a batch.", ["queue"], buckets=SIZES, registry=self.registry
        )
        self._refused = Counter("retriever_refused", "Refused requests.", ["status"], registry=self.registry)
        self._known: dict[tuple[str, str, int], Histogram] = {}  # looked up faster than by labels

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered, or whose client has gone."""
        key = method, route, status
        if key not in self._known:
            self._known[key] = self._seconds.labels(*key)
        self._known[key].observe(seconds)
        if status >= 400 and status != GONE:
            self._refused.labels(status).inc()

    def batch_observer(self, queue: str) -> Callable[[int, Sequence[float]], None]:
        """What a :class:`retriever.server.batcher.Batcher` of that name is to tell its batches."""
        sizes, waits = self._sizes.labels(queue), self._waits.labels(queue)

        def observe(size: int, waited: Sequence[float]) -> None:
            sizes.observe(size)
            for seconds in waited:
                waits.observe(seconds)

        return observe

    def gauge(self, name: str, told: str, value: Callable[[], float]) -> None:
        """Add a number that is asked for when it is read."""
        Gauge(f"retriever_{name}", told, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All numbers in Prometheus' text form."""
        return generate_latest(self.registry)
