"""The metrics of ``GET /metrics``, in the Prometheus text format."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics(Collector):
    """The metrics of one application, in a registry of its own.

    ``gauges`` maps the name of a gauge to its help text and the function that reads its value.
    """

    def __init__(self, model: str, version: str, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = registry = CollectorRegistry()
        info = Info("moslens", "The model served and the version of moslens.", registry=registry)
        info.info({"model": model, "version": version})
        for name, (text, read) in gauges.items():
            Gauge(name, text, registry=registry).set_function(read)
        self.requests = Counter(
            "moslens_requests_total",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.pictures = Counter(
            "moslens_pictures_total", "Pictures by outcome: ok or the error code.", ("code",), registry=registry
        )
        self.received = Counter("moslens_received_bytes_total", "Bytes of uploads.", registry=registry)
        self.request_seconds = Histogram(
            "moslens_request_seconds",
            "Time from a request's headers to its answer.",
            buckets=SECONDS,
            registry=registry,
        )
        self.picture_seconds = Histogram(
            "moslens_picture_seconds", "Time in a worker for one picture.", buckets=SECONDS, registry=registry
        )

    def collect(self) -> Iterator[Metric]:
        """Every metric, without the ``_created`` times that the library adds to counters and histograms."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self)
