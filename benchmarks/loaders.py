"""Patches per second that PyTorch's loader gets from files and from slides.

``python -m benchmarks.loaders PROJECT`` with the project folder of a slide; torch has to be
installed. Each line: dataset, workers, seconds of the first epoch, which starts them, and patches
per second of the better one of two more.
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import qupath_bridge as qb

SKIN = Path(__file__).parents[1] / "example_projects" / "skin"
WAYS = ((0, None), (2, "fork"), (4, "fork"), (2, "spawn"))


def epochs(dataset, workers, method):
    """Return the seconds of three epochs."""
    from torch.utils.data import DataLoader

    more = {"multiprocessing_context": method, "persistent_workers": True} if workers else {}
    loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=workers, **more)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert sum(len(patches) for patches, _ in loader) == len(dataset)
        seconds.append(time.perf_counter() - start)
    return seconds


def main():
    """Print one line for each dataset and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", nargs="?", default=SKIN)
    warnings.filterwarnings("ignore", "This DataLoader will create")
    plans = qb.plan(parser.parse_args().project, qb.ExportConfig(size=256, stride=64))
    print(
        f"{plans.patches} patches of 256 x 256, {os.cpu_count()} cores, {os.getloadavg()[0]} busy"
    )
    with tempfile.TemporaryDirectory() as folder:
        run = qb.export(plans, folder, provenance=False)
        for dataset in (qb.torch.PatchDataset(run), qb.torch.SlideDataset(plans)):
            for workers, method in WAYS:
                first, *others = epochs(dataset, workers, method)
                print(
                    f"{type(dataset).__name__:12} {workers} {method or '':5} {first:6.1f} s "
                    f"{len(dataset) / min(others):6.0f} patches/s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
