"""Patches per second that PyTorch's loader gets from files, from shards, and from slides.

``python -m benchmarks.loaders`` needs torch, and prints a table in Markdown. The patches do not
overlap, do not lie on the tiles of the slide file, and come in a new order each epoch. A number is
that of the best epoch but the first, which starts the workers and is in the last two columns.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import qupath_bridge as qb

from .common.machine import describe
from .common.studies import make_study

SIDE = 16_384  # of the slide, in pixels
WAYS = ((0, None), (2, "fork"), (4, "fork"), (2, "spawn"))
CONTAINERS = {"files": "folder", "tar shards": "tar:16MB", "Parquet": "parquet:16MB"}
EPOCHS = 6
CONFIG = qb.ExportConfig(size=224)
HEAD = """\
| from | 0 workers | 2 forked | 4 forked | 2 spawned | first epoch, 2 forked | … 2 spawned |
|---|---:|---:|---:|---:|---:|---:|"""


def epochs(dataset, workers, method):
    """Return the seconds of each epoch."""
    from torch.utils.data import DataLoader

    more = {"multiprocessing_context": method, "persistent_workers": True} if workers else {}
    loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=workers, **more)
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        assert sum(len(patches) for patches, _ in loader) == len(dataset)
        seconds.append(time.perf_counter() - start)
    return seconds


def datasets(project, config, folder):
    """Yield the name of each way to keep patches, and a dataset that reads them from there."""
    for name, container in CONTAINERS.items():
        stored = config.replace(container=container)
        out = folder / container.partition(":")[0]
        yield name, qb.torch.PatchDataset(qb.export(project, out, stored, provenance=False))
    yield "slides", qb.torch.SlideDataset(qb.plan(project, config))


def row(name, seconds, patches):
    """Return the line of a dataset; ``seconds`` has those of the epochs of each way."""
    speeds = [f"{patches / min(others):,.0f}" for _, *others in seconds.values()]
    starts = [f"{seconds[2, method][0]:.1f} s" for method in ("fork", "spawn")]
    return f"| {' | '.join([name, *speeds, *starts])} |"


def main():
    """Print one line for each dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "project", nargs="?", type=Path, help="another one than that of a made slide"
    )
    given = parser.parse_args().project
    warnings.filterwarnings("ignore", "This DataLoader will create")
    about = describe()
    print(f"{about['processor']}, {about['cores']} cores, {about['load'][0]} of them busy before")
    with tempfile.TemporaryDirectory() as folder:
        project = given or make_study(folder, SIDE).project
        for number, (name, dataset) in enumerate(datasets(project, CONFIG, Path(folder))):
            if not number:
                print(f"{len(dataset)} patches of {CONFIG.size} x {CONFIG.size}\n\n{HEAD}")
            seconds = {way: epochs(dataset, *way) for way in WAYS}
            print(row(name, seconds, len(dataset)), flush=True)


if __name__ == "__main__":
    main()
