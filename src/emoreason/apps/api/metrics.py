"""Metrics for Prometheus. Their labels come from fixed lists, never from what a client sends."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from emoreason.engine import Engine

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
STATES = ("loading", "ready", "failed", "closed")


class Metrics:
    """One set of metrics with its own registry, so several apps can run in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        labels = ("route", "method")
        self.requests = Counter("emoreason_requests", "Answered requests", (*labels, "status"), registry=registry)
        self.seconds = Histogram(
            "emoreason_request_seconds", "Time to the last byte", labels, registry=registry, buckets=SECONDS
        )
        self.open = Gauge("emoreason_requests_open", "Open requests under /v1", registry=registry)
        self.pictures = Counter("emoreason_pictures", "Pictures opened", registry=registry)
        self.bad_pictures = Counter("emoreason_pictures_refused", "Pictures that could not be read", registry=registry)
        self.faces = Counter("emoreason_faces", "Faces measured", registry=registry)
        self.tokens = Counter("emoreason_generated_tokens", "Tokens of generated texts", registry=registry)
        self.rows = Histogram(
            "emoreason_batch_rows", "Faces or questions per batch", ("kind",),
            registry=registry, buckets=ROWS,
        )  # fmt: skip
        self.batch_seconds = Histogram(
            "emoreason_batch_seconds", "Time per batch", ("kind",), registry=registry, buckets=SECONDS
        )
        model = ("model",)
        self.state = Gauge("emoreason_model_state", "1 for the state of a model", (*model, "state"), registry=registry)
        self.info = Gauge("emoreason_model_info", "1 for a loaded model", (*model, "revision"), registry=registry)
        self.running = Gauge("emoreason_running", "Texts being generated", model, registry=registry)
        self.waiting = Gauge("emoreason_waiting", "Requests waiting for the model", model, registry=registry)

    def batch(self, kind: str, rows: int, seconds: float) -> None:
        """The callback for `on_batch` of the engines."""
        self.rows.labels(kind).observe(rows)
        self.batch_seconds.labels(kind).observe(seconds)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route, method).observe(seconds)

    def text(self, engines: Iterable[Engine]) -> bytes:
        """All metrics in the text format of Prometheus."""
        for engine in engines:
            for state in STATES:
                self.state.labels(engine.name, state).set(engine.state == state)
            if engine.state == "ready":
                self.info.labels(engine.name, engine.reasoner.revision).set(1)
            self.running.labels(engine.name).set(engine.running)
            self.waiting.labels(engine.name).set(engine.waiting)
        return generate_latest(self.registry)
