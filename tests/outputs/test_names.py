"""Names of very many files."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.outputs.names import NameLog, NameSet

NAMES = st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), max_size=20)


@given(NAMES, NAMES)
def test_a_set_of_names_has_what_was_added(names, others):
    """And nothing else."""
    found = NameSet(names)
    assert all(name in found for name in names)
    assert [name for name in others if name in found] == [n for n in others if n in set(names)]


@given(NAMES)
def test_a_log_gives_the_names_in_order(names):
    """Also those that are not UTF-8 on disk."""
    assert list(NameLog(names)) == names


def test_a_log_takes_a_tenth_of_the_names(tmp_path):
    """Past its first chunk as before it."""
    names = [
        f"patches/3_CMU-1.svs/Tumor/3_CMU-1.svs_x{n * 256}_y{n // 100 * 256}.png"
        for n in range(50_000)
    ]
    tracemalloc.start()
    log = NameLog(names)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(log) == names
    assert size < sum(map(len, names)) / 4
