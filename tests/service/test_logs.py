"""Logs of the service: each line is JSON, and says which job and slide it is about."""

import io
import json
import logging
import os
import subprocess
import sys

import httpx
import pytest

from qupath_bridge.service import logs
from tests.service.test_worker import job, out
from tests.support.service import ended, serving, working

__all__ = ["job", "out"]


@pytest.fixture
def lines():
    """The records of the service as JSON, while the test runs."""
    stream, logger = io.StringIO(), logging.getLogger("qupath_bridge")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_each_line_says_what_it_is_about(lines):
    log = logging.getLogger("qupath_bridge.service")
    with logs.about(job_id="1", slide_id=None), logs.about(slide_id="1_ä"):
        log.info("slide %s", "a\nb")
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("it failed")
    first, second = lines()
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info", "logger": "qupath_bridge.service", "message": "slide a\nb",
        "job_id": "1", "slide_id": "1_ä",
    }  # fmt: skip
    assert "job_id" not in second and "ValueError: no" in second["error"]


def test_the_lines_of_a_job_are_found_by_its_id(service, job, lines):
    with working(service) as worker:
        ended(service, job)
    mine = [line for line in lines() if line.get("job_id") == job]
    slides = {line["slide_id"] for line in mine if "slide_id" in line}
    assert slides == {each.slide_id for each in service.jobs.slides(job)}
    assert {line["worker"] for line in mine} == {worker.name}
    assert any("complete" in line["message"] for line in mine)


def test_a_program_writes_nothing_but_json(tmp_path):
    """Also what is for people elsewhere, and what libraries say."""
    variables = {
        "QUPATH_BRIDGE_DATABASE": f"sqlite:///{tmp_path / 'a.sqlite'}",
        "QUPATH_BRIDGE_LOG_FORMAT": "json",
        "QUPATH_BRIDGE_PORT": "0",
    }
    words = [sys.executable, "-m", "qupath_bridge", "service", "run"]
    with subprocess.Popen(
        words, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    ) as program:
        seen = [program.stderr.readline() for _ in range(3)]
        program.terminate()
        seen += program.stderr.readlines()
    found = [json.loads(line) for line in seen]
    assert any("listens on" in line["message"] for line in found)
    assert any("No job will be accepted" in line["message"] for line in found)
    assert any("Worker" in line["message"] for line in found)


def test_requests_are_logged(service, lines):
    with serving(service) as url:
        assert httpx.get(f"{url}/health").status_code == 200
    (line,) = (each for each in lines() if "method" in each)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/health", 200)


def test_spans_say_what_they_are_about(service, job):
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    with working(service):
        ended(service, job)
    spans = [
        span
        for span in kept.get_finished_spans()
        if span.attributes.get("qupath_bridge.job_id") == job
    ]
    names = [span.name for span in spans]
    assert names.count("prepare") == 1 and names.count("slide") == 3 and names.count("finish") >= 1
    assert {s.attributes["qupath_bridge.slide_id"] for s in spans if s.name == "slide"} == {
        each.slide_id for each in service.jobs.slides(job)
    }
