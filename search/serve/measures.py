"""What /metrics says, for Prometheus: requests, how long they took, batches, images."""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# What nobody has ever listened to is not told apart: a path is a time series for ever.
_OTHER = "other"


class Measures:
    """Counts in a registry of its own, so that two applications in a process do not count for each other."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "digitsearch_requests", "Answered requests.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "digitsearch_request_seconds",
            "From a request's head to its answer's end.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._images = Counter("digitsearch_images", "Images predicted.", registry=self._registry)
        self._batches = Histogram(
            "digitsearch_batch_images", "Images of a batch.", buckets=_IMAGES, registry=self._registry
        )

    def batch(self, num_images: int) -> None:
        """A batch is computed."""
        self._images.inc(num_images)
        self._batches.observe(num_images)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class Measured:
    """Around an application: tells `measures` of each request."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            path = getattr(scope.get("route"), "path", _OTHER)
            self._measures.request(path, status, time.perf_counter() - began)
