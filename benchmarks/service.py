"""How long the API of the service takes when its database is full, and what memory it needs.

    python -m benchmarks.service [--patches 100000] [--slides 2000] [--jobs 1000] [--clients 1,4,16]

On SQLite and on PostgreSQL, side by side: a run with very many small patches is exported and
indexed as `service reindex` does it; a job with very many slides waits, and other jobs too. Then
clients ask an API in a process of its own, each database in turn, so that both see the same
machine. At the end a worker exports many slides, and says how much memory it holds.

PostgreSQL is started for this; `--database` names an empty database of a server of yours instead.
"""

import argparse
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

import qupath_bridge as qb
from benchmarks.common.machine import describe
from benchmarks.common.processes import tree_bytes
from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.services import PostgreSQL
from qupath_bridge.testing.slides import marker_image, write_slide

SIZE = 8
"""Pixels of a patch: the database does not see pixels."""
PER_SLIDE = 2_500
SIDE = SIZE * math.isqrt(PER_SLIDE)
LABELS = ("Tumor", "Stroma", "Necrosis", "Fat")
SMALL = 64
"""Pixels of the side of a slide that the worker exports."""


def main(words=None):
    """Measure, and print a table or JSON."""
    options = parse(words)
    with tempfile.TemporaryDirectory(prefix="service-") as folder, ExitStack() as stack:
        place = Path(folder)
        urls = {"SQLite": lambda name: f"sqlite:///{(place / f'{name}.sqlite').as_posix()}"}
        if postgresql := _postgresql(place, options, stack):
            urls["PostgreSQL"] = postgresql
        found = measure(place, urls, options)
    print(json.dumps(found, indent=1) if options.json else table(found))


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", help="an empty PostgreSQL database; the worker is left out")
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--slides", type=int, default=2_000, help="slides that wait")
    parser.add_argument("--jobs", type=int, default=1_000, help="other jobs that wait")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--clients", default="1,4,16", help="requests at the same time")
    parser.add_argument("--exports", type=int, default=100, help="slides that the worker exports")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    options.clients = [int(each) for each in options.clients.split(",")]
    return options


def _postgresql(place, options, stack):
    """Return what gives the address of a new database, None if there is no server."""
    if options.database:
        return lambda name: options.database if name == "lists" else None
    try:
        server = PostgreSQL(place / "postgresql")
    except MissingDependencyError as error:
        print(f"{error} {error.hint}", file=sys.stderr)
        return None
    stack.enter_context(server)

    def new(name):
        server.create_database(name)
        return server.database_url(name)

    return new


def measure(place, urls, options):
    """Fill databases, ask, and return the numbers."""
    from qupath_bridge.service.settings import ServiceSettings

    study, out = place / "study", place / "out"
    project = make_project(study, max(1, options.patches // PER_SLIDE))
    run = export(project, out / "big")
    databases, found = {}, {}
    with ExitStack() as stack:
        for name, url in urls.items():
            settings = ServiceSettings(
                database=url("lists"), sources=[str(study)], outputs=[str(out)],
                requests_per_minute=10**9,
            )  # fmt: skip
            job, found[name] = fill(settings, project, run, options)
            databases[name] = (job, *stack.enter_context(serving(settings)))
        asked = ask(databases, options)
    for name, url in urls.items():
        found[name] |= asked[name]
        if options.exports and (address := url("exports")):
            found[name]["worker_mib"] = work(place / name, address, options.exports)
    return {
        "patches": options.patches // PER_SLIDE * PER_SLIDE,
        "slides": options.slides,
        "jobs": options.jobs + 1,
        "clients": options.clients,
        "machine": describe(),
        "databases": found,
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


def fill(settings, project, run, options):
    """Index the run, and let slides and jobs wait; return the job of the run, and numbers."""
    from qupath_bridge.service.database.indexing import index_run
    from qupath_bridge.service.opened import open_service

    config = {"size": SIZE, "container": "tar"}
    with open_service(settings, migrates=True) as service:
        empty = size_of(service.database)
        big = service.jobs.submit([str(project)], run, config)
        take_over(service, big, run)
        began = time.perf_counter()
        patches = index_run(service.database, run)
        indexing = time.perf_counter() - began
        full = size_of(service.database)
        for number in range(options.jobs):
            service.jobs.submit([str(project)], str(Path(run).with_name(str(number))), config)
        queue_slides(service, big, options.slides)
        return big, {
            "patches_per_second_indexed": round(patches / indexing),
            "bytes_per_patch": round((full - empty) / patches),
            "database_bytes": size_of(service.database),
        }


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
    address = f"http://127.0.0.1:{port}"
    with started(settings, "api", "--port", str(port)) as process:
        for _ in range(600):
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, psutil.Process(process.pid)


@contextmanager
def started(settings, *words):
    """Run a program of the service while the block runs; give its process."""
    variables = {
        "QUPATH_BRIDGE_DATABASE": settings.database.get_secret_value(),
        "QUPATH_BRIDGE_SOURCES": ";".join(settings.sources),
        "QUPATH_BRIDGE_OUTPUTS": ";".join(settings.outputs),
        "QUPATH_BRIDGE_REQUESTS_PER_MINUTE": str(settings.requests_per_minute),
    }
    command = [sys.executable, "-m", "qupath_bridge", "service", *words]
    process = subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def ask(databases, options):
    """Ask for each list very often, each API in turn; return milliseconds, and the memory.

    Parameters
    ----------
    databases : dict of str to (str, str, psutil.Process)
        The job with all patches, and the address and the process of the API, by database.
    """
    import httpx

    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(httpx.Client(base_url=address, timeout=120))
            for name, (_, address, _) in databases.items()
        }
        queries = {
            name: queries_of(clients[name], job, options) for name, (job, _, _) in databases.items()
        }

        def run(name, query, number, threads):
            path, values = queries[name][query]

            def seconds(_):
                began = time.perf_counter()
                clients[name].get(path, params=values).raise_for_status()
                return time.perf_counter() - began

            process = databases[name][2]
            before = process.cpu_times()
            taken = sorted(threads.map(seconds, range(number)))
            after = process.cpu_times()
            cpu = after.user + after.system - before.user - before.system
            return {
                "median": round(taken[len(taken) // 2] * 1000, 1),
                "p95": round(taken[int(len(taken) * 0.95)] * 1000, 1),
                "cpu": round(cpu / number * 1000, 1),
            }

        kinds = next(iter(queries.values()))
        most = stack.enter_context(ThreadPoolExecutor(max(options.clients)))
        for name, query in itertools.product(databases, kinds):  # whatever is made once
            run(name, query, max(options.clients) * 2, most)
        memory = {name: [each[2].memory_info().rss >> 20] for name, each in databases.items()}
        times = {name: {query: {} for query in kinds} for name in databases}
        for number in options.clients:
            with ThreadPoolExecutor(number) as threads:
                for query, name in itertools.product(kinds, databases):
                    times[name][query][str(number)] = run(name, query, options.requests, threads)
            for name, (_, _, process) in databases.items():
                memory[name].append(process.memory_info().rss >> 20)
    return {name: {"milliseconds": times[name], "api_mib": memory[name]} for name in databases}


def queries_of(client, job, options):
    """Return path and parameters of each kind of request."""
    patches = f"/jobs/{job}/patches"
    one = client.get(patches, params={"limit": 1}).json()["patches"][0]
    late = one["number"] + options.patches // 2
    slide = one["slide_id"]
    return {
        "GET /jobs": ("/jobs", {}),
        "GET /jobs?state=running": ("/jobs", {"state": "running"}),
        "GET /jobs/ID": (f"/jobs/{job}", {}),
        "GET /jobs/ID/slides": (f"/jobs/{job}/slides", {}),
        "GET /jobs/ID/slides?state=waiting": (f"/jobs/{job}/slides", {"state": "waiting"}),
        "GET /jobs/ID/patches": (patches, {}),
        "GET /jobs/ID/patches, far on": (patches, {"after": late}),
        "GET /jobs/ID/patches?label=Fat": (patches, {"label": "Fat"}),
        "GET /jobs/ID/patches?slide=…": (patches, {"slide": slide}),
        "GET /jobs/ID/patches?slide=…&label=Fat": (patches, {"slide": slide, "label": "Fat"}),
        "GET /patches/TILE": (f"/patches/{one['tile_uuid']}", {}),
        "GET /metrics": ("/metrics", {}),
    }


def work(folder, database, slides):
    """Let a worker export a job of very small slides; return its memory at each tenth, in MiB."""
    from qupath_bridge.service.opened import open_service
    from qupath_bridge.service.settings import ServiceSettings

    folder.mkdir()
    region = Region("Tumor", f"POLYGON ((0 0, {SMALL} 0, {SMALL} {SMALL}, 0 {SMALL}, 0 0))")
    images = [
        Image(
            write_slide(folder / f"{n}.tiff", marker_image(SMALL, SMALL + n), mpp=0.5, tile=64),
            [region],
        )
        for n in range(slides)
    ]
    project = build_project(folder / "project", images)
    settings = ServiceSettings(
        database=database, sources=[str(folder)], outputs=[str(folder / "out")]
    )
    memory = {}
    with open_service(settings, migrates=True) as service, started(settings, "worker") as process:
        job = service.jobs.submit([str(project)], str(folder / "out" / "run"), {"size": SIZE})
        while (state := service.jobs.get(job)).state not in ("complete", "failed"):
            if done := state.slides.get("done", 0):
                memory.setdefault(done * 10 // slides, tree_bytes(process.pid) >> 20)
            time.sleep(0.2)
        assert state.slides == {"done": slides}, state
    return list(memory.values())


def table(found):
    """Return the numbers as people read them."""
    databases, clients = found["databases"], found["clients"]
    lines = [
        f"{found['patches']:,} patches, {found['slides']:,} slides that wait, "
        f"{found['jobs']:,} jobs; {found['machine']['cores']} cores, load "
        f"{found['machine']['load'][0]:.0f}",
        *(
            f"{name}: indexed {each['patches_per_second_indexed']:,} patches per second, "
            f"{each['bytes_per_patch']:,} bytes per patch; API {_range(each['api_mib'])} MiB, "
            f"worker {_range(each.get('worker_mib', []))} MiB"
            for name, each in databases.items()
        ),
        "",
        "ms: 95th percentile by clients at the same time, and processor time of the API",
        f"{'request':40}" + "".join(
            f" | {f'{name}, {clients[0]}':>13}{''.join(f' {n:>5}' for n in clients[1:])}   cpu"
            for name in databases
        ),
    ]  # fmt: skip
    for query in next(iter(databases.values()))["milliseconds"]:
        cells = ""
        for each in databases.values():
            times = each["milliseconds"][query]
            p95 = [times[str(number)]["p95"] for number in clients]
            cpu = times[str(clients[0])]["cpu"]
            cells += f" | {p95[0]:>13.0f}" + "".join(f" {n:>5.0f}" for n in p95[1:])
            cells += f" {cpu:>5.1f}"
        lines.append(f"{query:40}{cells}")
    return "\n".join(lines)


def _range(numbers):
    return f"{min(numbers)} to {max(numbers)}" if numbers else "–"


if __name__ == "__main__":
    main()
