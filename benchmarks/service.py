"""How long the API of the service takes when its database is full, and what memory it needs.

    python -m benchmarks.service [--database URL] [--patches 100000] [--slides 2000] [--jobs 1000]

A run with very many small patches is exported and indexed as `service reindex` does it; a job with
very many slides waits, and other jobs too. Then clients ask an API in a process of its own. Without
a URL the database is an SQLite file. Only an empty database is taken.
"""

import argparse
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

import qupath_bridge as qb
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide

SIZE = 8
"""Pixels of a patch: the database does not see pixels."""
PER_SLIDE = 2_500
SIDE = SIZE * math.isqrt(PER_SLIDE)
LABELS = ("Tumor", "Stroma", "Necrosis", "Fat")


def main(words=None):
    """Measure, and print a table or JSON."""
    options = parse(words)
    with tempfile.TemporaryDirectory(prefix="service-") as folder:
        place = Path(folder)
        url = options.database or f"sqlite:///{(place / 'service.sqlite').as_posix()}"
        found = measure(place, url, options)
    print(json.dumps(found, indent=1) if options.json else table(found))


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", help="an empty PostgreSQL database")
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--slides", type=int, default=2_000, help="slides that wait")
    parser.add_argument("--jobs", type=int, default=1_000, help="other jobs that wait")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--clients", type=int, default=4, help="requests at the same time")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def measure(place, url, options):
    """Fill a database, ask, and return the numbers."""
    from qupath_bridge.service.database.indexing import index_run
    from qupath_bridge.service.opened import open_service
    from qupath_bridge.service.settings import ServiceSettings

    project = make_project(place / "study", max(1, options.patches // PER_SLIDE))
    settings = ServiceSettings(
        database=url, sources=[str(place / "study")], outputs=[str(place / "out")],
        requests_per_minute=10**9,
    )  # fmt: skip
    with open_service(settings, migrates=True) as service:
        jobs = service.jobs
        config = {"size": SIZE, "container": "tar"}
        big = jobs.submit([str(project)], str(place / "out" / "big"), config)
        out = export(project, place / "out" / "big")
        take_over(service, big, out)
        began = time.perf_counter()
        patches = index_run(service.database, out)
        indexing = time.perf_counter() - began
        for number in range(options.jobs):
            jobs.submit([str(project)], str(place / "out" / str(number)), config)
        queue_slides(service, big, options.slides)
        bytes_used = size_of(service.database)
    with serving(settings) as (address, process):
        asked = ask(address, big, process, options)
    return {
        "patches": patches,
        "slides": options.slides,
        "jobs": options.jobs + 1,
        "clients": options.clients,
        "patches_per_second_indexed": round(patches / indexing),
        "database_bytes": bytes_used,
        **asked,
    }


def make_project(folder, slides):
    folder.mkdir()
    images = []
    for number in range(slides):
        slide = write_slide(
            folder / f"{number}.tiff", marker_image(SIDE, SIDE + number), mpp=0.5, tile=64
        )
        wide = SIDE / len(LABELS)
        regions = [
            Region(name, f"POLYGON (({n * wide} 0, {(n + 1) * wide} 0, {(n + 1) * wide} {SIDE}, "
                   f"{n * wide} {SIDE}, {n * wide} 0))")
            for n, name in enumerate(LABELS)
        ]  # fmt: skip
        images.append(Image(slide, regions))
    return build_project(folder / "project", images)


def export(project, out):
    qb.export(project, out, qb.ExportConfig(size=SIZE, container="tar"), provenance=False)
    return str(out)


def take_over(service, job, out):
    """Let the run in an output be that of a job."""
    import sqlalchemy as sa

    from qupath_bridge.service.database.models import Job

    run_id = json.loads((Path(out) / "run.json").read_text("utf-8"))["run_id"]
    with service.database.write() as connection:
        connection.execute(sa.update(Job).where(Job.job_id == job).values(run_id=run_id))


def queue_slides(service, job, number):
    """Give a job very many slides that wait, as a worker does when it has prepared a job."""
    from qupath_bridge.service.ledger import Ledger

    ledger = Ledger(service.database, "benchmark", 60)
    claim = ledger.claim_job(job, {"queued": "preparing"})
    task = {"options": {}, "config": qb.ExportConfig().as_json()}
    tasks = [
        {**task, "slide_id": f"{n}_S-{n:05}", "entry_id": str(n)} for n in range(1, number + 1)
    ]
    names = {each["slide_id"]: f"S-{each['entry_id']}.svs" for each in tasks}
    assert ledger.begin_slides(job, claim.run_id, tasks, names, [], [], ())


def size_of(database):
    with database.read() as connection:
        if database.is_sqlite:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            return pages * connection.exec_driver_sql("PRAGMA page_size").scalar()
        return connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar()


@contextmanager
def serving(settings):
    """Run the API in a process of its own; give its address and its process."""
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    variables = {
        "QUPATH_BRIDGE_DATABASE": settings.database.get_secret_value(),
        "QUPATH_BRIDGE_REQUESTS_PER_MINUTE": str(settings.requests_per_minute),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "qupath_bridge", "service", "api", "--port", str(port)],
        env={**os.environ, **variables},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def ask(address, job, process, options):
    """Ask for each list very often; return milliseconds, and the memory of the API."""
    import httpx

    one = httpx.get(f"{address}/jobs/{job}/patches", params={"limit": 1}).json()["patches"][0]
    late = one["number"] + options.patches // 2
    queries = {
        "GET /jobs": ("/jobs", {}),
        "GET /jobs?state=running": ("/jobs", {"state": "running"}),
        "GET /jobs/ID": (f"/jobs/{job}", {}),
        "GET /jobs/ID/slides": (f"/jobs/{job}/slides", {"limit": 100}),
        "GET /jobs/ID/patches": (f"/jobs/{job}/patches", {"limit": 100}),
        "GET /jobs/ID/patches, far on": (f"/jobs/{job}/patches", {"limit": 100, "after": late}),
        "GET /jobs/ID/patches?label=Fat": (f"/jobs/{job}/patches", {"limit": 100, "label": "Fat"}),
        "GET /jobs/ID/patches?slide=…": (
            f"/jobs/{job}/patches", {"limit": 100, "slide": one["slide_id"]},
        ),
        "GET /patches/TILE": (f"/patches/{one['tile_uuid']}", {}),
        "GET /metrics": ("/metrics", {}),
    }  # fmt: skip
    with (
        httpx.Client(base_url=address, timeout=60) as client,
        ThreadPoolExecutor(options.clients) as threads,
    ):

        def seconds(path, query):
            began = time.perf_counter()
            client.get(path, params=query).raise_for_status()
            return time.perf_counter() - began

        def run(path, query, number):
            return sorted(threads.map(lambda _: seconds(path, query), range(number)))

        for path, query in queries.values():  # whatever is made once
            run(path, query, options.clients * 2)
        before = process.memory_info().rss
        times = {name: run(*each, options.requests) for name, each in queries.items()}
        after = process.memory_info().rss
    return {
        "milliseconds": {
            name: {"median": round(each[len(each) // 2] * 1000, 1),
                   "p95": round(each[int(len(each) * 0.95)] * 1000, 1)}
            for name, each in times.items()
        },
        "memory_mib": {"before": before >> 20, "after": after >> 20},
    }  # fmt: skip


def table(found):
    """Return the numbers as people read them."""
    lines = [
        f"{found['patches']:,} patches, {found['slides']:,} slides that wait, "
        f"{found['jobs']:,} jobs, {found['clients']} clients",
        f"indexed {found['patches_per_second_indexed']:,} patches per second; "
        f"{found['database_bytes'] / 1e6:,.0f} MB",
        f"memory of the API {found['memory_mib']['before']} MiB, after all requests "
        f"{found['memory_mib']['after']} MiB",
        "",
        f"{'request':32} {'median':>8} {'p95':>8}",
    ]
    lines += [
        f"{name:32} {each['median']:>5.1f} ms {each['p95']:>5.1f} ms"
        for name, each in found["milliseconds"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
