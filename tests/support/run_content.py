"""What a run has written, wherever that is: to be compared with another run."""

import qupath_bridge as qb
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.records import load_facts
from qupath_bridge.stores import open_store


def patch_files(place):
    """Return the bytes of each file with patches, by name."""
    store = open_store(place)
    return {name: store.get(name) for name in store.list("patches/")}


def index_rows(place, *others):
    """Return the index, without the id of the run and other columns."""
    return qb.read_index(place).drop_columns(["run_id", *others]).to_pylist()


def facts_of(place):
    """Return what is recorded of each slide that is committed."""
    output = open_output(place)
    return [load_facts(output.rows(slide_id), slide_id) for slide_id in output.slides()]
