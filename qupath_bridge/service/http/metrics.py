"""Numbers for Prometheus: what is in the database now, and the requests of this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator

import sqlalchemy as sa
from fastapi import Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from qupath_bridge.service.database.models import IndexedRun, IndexedSlide, Job, JobSlide
from qupath_bridge.service.logs import about
from qupath_bridge.service.opened import Service

__all__ = ["MEDIA_TYPE", "Metrics"]

log = logging.getLogger("qupath_bridge.service")

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PREFIX = "qupath_bridge_"


class Metrics:
    """The metrics of one service.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(service))
        self._requests = Counter(
            f"{PREFIX}requests", "Requests by path and status.", ("method", "path", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            f"{PREFIX}request_seconds", "Seconds of requests.", ("path",), registry=self._registry
        )

    def text(self) -> bytes:
        """Return all numbers in the format of Prometheus."""
        return generate_latest(self._registry)

    async def watch(
        self, request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Count a request, by the pattern of its path: ids would make very many."""
        began = time.perf_counter()
        response = await answer(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        seconds = time.perf_counter() - began
        self._seconds.labels(path).observe(seconds)
        self._requests.labels(request.method, path, str(response.status_code)).inc()
        with about(method=request.method, path=path, status=response.status_code):
            log.info("%s %s: %d in %.3f s", request.method, path, response.status_code, seconds)
        return response


class _State:
    """Reads the database when it is asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> tuple[Metric, ...]:
        """Return nothing, so that registering asks for nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers of now."""
        with self._service.database.read() as connection:
            yield _by(connection, "jobs", "Jobs by state.", Job.state)
            yield _by(connection, "slides", "Slides of jobs by state.", JobSlide.state)
            for name, text, count in (
                ("runs", "Runs in the index.", sa.func.count(IndexedRun.number)),
                # A row per slide knows them; counting patches would take longer and longer.
                ("patches", "Patches in the index.", sa.func.sum(IndexedSlide.patches)),
            ):
                number = connection.scalar(sa.select(count)) or 0
                yield GaugeMetricFamily(f"{PREFIX}{name}", text, value=number)
        queue = self._service.queue
        waiting, dead = queue.waiting(), sum(1 for _ in queue.dead_letters())
        yield GaugeMetricFamily(f"{PREFIX}queue_waiting", "Messages that wait.", value=waiting)
        yield GaugeMetricFamily(f"{PREFIX}queue_dead", "Dead letters.", value=dead)


def _by(
    connection: sa.Connection, name: str, text: str, column: sa.orm.InstrumentedAttribute[str]
) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=("state",))
    for state, number in connection.execute(sa.select(column, sa.func.count()).group_by(column)):
        family.add_metric((state,), number)
    return family
