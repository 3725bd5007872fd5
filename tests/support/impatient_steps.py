"""The steps of jobs, in processes that ask an object store a second time, but no third time."""

import multiprocessing

from qupath_bridge.service.steps import STEPS
from qupath_bridge.stores import cloud

__all__ = ["STEPS"]

if multiprocessing.parent_process() is not None:
    cloud.RETRIES = 1
