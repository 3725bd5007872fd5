"""A worker of the job service in a thread, and waiting for what it does."""

import socket
import threading
from contextlib import contextmanager

import uvicorn

from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service.children import Child
from qupath_bridge.service.http.app import create_app
from qupath_bridge.service.worker import Worker
from tests.support.waiting import wait_until

BAD_STEPS = "bad_steps"
"""Module that the fixture ``tokens`` lets child processes find."""


@contextmanager
def working(service, settings=None, *, steps=None):
    """Work while the block runs; ``steps`` names a module of other steps."""
    settings = settings or service.settings
    child = Child(settings.task_seconds, settings.memory_mb, steps=steps) if steps else None
    worker = Worker(settings, service.database, service.queue, child)
    stop = CancelToken()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield worker
    finally:
        stop.cancel()
        thread.join(60)
    assert not thread.is_alive()


def wait_for(happened, seconds=150.0):
    """Wait until something is true, and return it."""
    return wait_until(happened, seconds=seconds, nap=0.05)


def ended(service, job_id):
    """Wait until a job has ended; return its state."""

    def look():
        state = service.jobs.get(job_id)
        return state if state.state in ("complete", "failed", "cancelled") else None

    return wait_for(look)


def in_state(service, job_id, state):
    """Wait until a job is in a state."""
    return wait_for(lambda: service.jobs.get(job_id).state == state)


@contextmanager
def serving(service):
    """Answer requests on a free port of this machine while the block runs; give the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The logging of pytest stays as it is.
        config = uvicorn.Config(
            create_app(service), log_config=None, log_level="warning", lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()
