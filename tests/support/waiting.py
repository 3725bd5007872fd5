"""Waiting for what another thread or process does."""

import time


def wait_until(condition, process=None, *, seconds=60, nap=0.01):
    """Wait until something is true, while a process works; return what was found."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "nothing happened"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(nap)
    return found
