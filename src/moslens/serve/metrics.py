"""Counters, gauges and histograms in the Prometheus text format. Everything is counted in the event loop."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class Counter:
    name: str
    help: str
    values: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def add(self, amount: float = 1, **labels: str) -> None:
        key = tuple(labels.items())
        self.values[key] = self.values.get(key, 0) + amount

    def lines(self) -> list[str]:
        found = [f"{self.name}{_labels(key)} {value:g}" for key, value in sorted(self.values.items())]
        return [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} counter", *found]


@dataclass
class Histogram:
    name: str
    help: str
    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def lines(self) -> list[str]:
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} histogram"]
        reached = 0
        for bound, count in zip([*map(str, SECONDS), "+Inf"], self.counts, strict=True):
            reached += count
            lines.append(f'{self.name}_bucket{{le="{bound}"}} {reached}')
        return [*lines, f"{self.name}_sum {self.total:.6f}", f"{self.name}_count {reached}"]


@dataclass
class Metrics:
    """What ``GET /metrics`` shows. ``gauges`` maps a name to its help text and what reads the value now."""

    model: str
    version: str
    gauges: Mapping[str, tuple[str, Callable[[], float]]]
    requests: Counter = field(
        default_factory=lambda: Counter("moslens_requests_total", "Requests by route, method and status.")
    )
    pictures: Counter = field(
        default_factory=lambda: Counter("moslens_pictures_total", "Pictures by outcome: ok or the error code.")
    )
    received: Counter = field(default_factory=lambda: Counter("moslens_received_bytes_total", "Bytes of uploads."))
    request_seconds: Histogram = field(
        default_factory=lambda: Histogram("moslens_request_seconds", "Time from a request's headers to its answer.")
    )
    picture_seconds: Histogram = field(
        default_factory=lambda: Histogram("moslens_picture_seconds", "Time in a worker for one picture.")
    )

    def text(self) -> str:
        lines = [
            "# HELP moslens_info The model served and the version of moslens.",
            "# TYPE moslens_info gauge",
            f"moslens_info{_labels((('model', self.model), ('version', self.version)))} 1",
        ]
        for name, (words, read) in self.gauges.items():
            lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge", f"{name} {read():g}"]
        for part in (self.requests, self.pictures, self.received, self.request_seconds, self.picture_seconds):
            lines += part.lines()
        return "\n".join(lines) + "\n"


def _labels(pairs: tuple[tuple[str, str], ...]) -> str:
    if not pairs:
        return ""
    escaped = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in pairs)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
