"""Start-up: what a command costs before it does anything."""

import sys

from benchmarks.common.processes import bridge, run

from .findings import Finding

TRIES = 5


def starting(bench):
    """Measure the help, the import, and an export of 100 patches."""
    small = bench.study(2560, 1.0)
    times = bench.best(
        {
            "--help": lambda: bridge("--help"),
            "import": lambda: run([sys.executable, "-c", "import qupath_bridge"]),
            "python": lambda: run([sys.executable, "-c", "pass"]),
            "export": lambda: bench.export(small),
        },
        TRIES,
    )
    seconds = {name: spent.counted for name, spent in times.items()}
    note = f"Python alone {seconds['python']:.2f} s"
    return [
        Finding("qupath-bridge --help", seconds["--help"], " s", 0.3, True, note, seconds),
        Finding("import qupath_bridge", seconds["import"], " s", 0.3, True, note, seconds),
        Finding(f"export of {len(small)} patches", seconds["export"], " s", 1, True,
                numbers=seconds),
    ]  # fmt: skip
