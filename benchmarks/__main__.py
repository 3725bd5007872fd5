"""Check every goal of speed, memory and growth on this machine, beside other programs.

    python -m benchmarks [--quick] [--side 40000] [--only NAME] [--long]

Slides are made the first time and kept in the cache folder, as are the environments of the other
programs. Each work is done several times, in turn with those it is compared with; the best time
counts. docs/performance.md explains the lines.
"""

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

from benchmarks.common.machine import cores, describe
from benchmarks.goals import beside, channels, colours, exports, growing, reads, starting, working
from benchmarks.goals.bench import Bench
from benchmarks.goals.findings import Finding

ROOT = Path(__file__).parents[1]
GOALS = {
    "start": starting.starting,
    "reads": reads.reading,
    "scaling": reads.scaling,
    "threads": reads.threads,
    "png": exports.png,
    "jpeg": exports.jpeg,
    "larger": exports.larger,
    "passthrough": exports.pass_through,
    "bytes": exports.same_bytes,
    "quality": colours.quality,
    "stain": colours.stain,
    "dzsave": beside.dzsave,
    "peers": beside.peers,
    "labels": working.labelling,
    "plan": working.planning,
    "tissue": working.tissue,
    "projects": working.projects,
    "sides": growing.sides,
    "channels": channels.channels,
}
LONG = {"huge": growing.huge, "million": growing.many}


def main(words=None):
    """Run the benchmarks, and return 0 if every line could be measured."""
    options = parse(words)
    chosen = {**GOALS, **(LONG if options.long or options.only else {})}
    if options.only:
        chosen = {name: chosen[name] for name in options.only}
    machine = describe()
    print(f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
          f"Python {machine['python']}")  # fmt: skip
    if machine["load"][0] > 0.5 * cores():
        print(f"Other programs are at work here (load {machine['load'][0]}): expect noise.")
    bench = Bench(options.cache, options.side, options.repeats, options.peer_patches, options.clock)
    found, broken = {}, 0
    try:
        for name, goal in chosen.items():
            began = time.monotonic()
            try:
                found[name] = goal(bench)
            except Exception as error:  # noqa: BLE001  # the other lines can still be measured
                traceback.print_exc()
                found[name] = [Finding(name, None, note=f"{type(error).__name__}: {error}"[:300])]
                broken += 1
            show(name, found[name], time.monotonic() - began)
    finally:
        bench.close()
    record = {
        "machine": machine,
        "side": options.side,
        "best_of": options.repeats,
        "clock": options.clock,
        "findings": {name: [one.record() for one in each] for name, each in found.items()},
    }
    place = options.json or options.cache / "result.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    every = [one for each in found.values() for one in each]
    held = sum(one.held is True for one in every)
    print(f"\n{held} of {sum(one.goal is not None for one in every)} goals held; "
          f"best of {options.repeats}, slide of {options.side:,} px")  # fmt: skip
    return 1 if broken else 0


def parse(words):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--side", type=int, help="of the slide, px (20480; 4096 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small, each work once")
    parser.add_argument("--long", action="store_true", help="also 80,000 px, and 1 M patches")
    parser.add_argument(
        "--only", action="append", choices=[*GOALS, *LONG], metavar="NAME",
        help=f"one of {', '.join([*GOALS, *LONG])}; may be repeated",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, help="of each work; the best counts (3; 1)")
    parser.add_argument("--peer-patches", type=int, help="that other libraries make (400; 50)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: processor time where one thread works, for a machine where "
                        "other programs are at work")  # fmt: skip
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "benchmarks",
                        help="folder for slides and environments (build/benchmarks)")  # fmt: skip
    parser.add_argument("--json", type=Path,
                        help="file to write the numbers to (result.json in the cache)")  # fmt: skip
    options = parser.parse_args(words)
    options.side = options.side or (4096 if options.quick else 20_480)
    options.repeats = options.repeats or (1 if options.quick else 3)
    options.peer_patches = options.peer_patches or (50 if options.quick else 400)
    return options


def show(name, findings, seconds):
    """Print the lines of one goal."""
    print(f"\n{name} ({seconds:.0f} s)", flush=True)
    for one in findings:
        value, goal = one.shown()
        print(f"  {one.name:<46}{value:>14} {goal:>14}  {one.state:<12} {one.note}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
