"""Other programs on the same slide in the same run, with their own public functions."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

from benchmarks.common.machine import cores
from benchmarks.common.processes import CommandError, in_turn, run
from benchmarks.peers.environments import PEERS, SkippedError, environment

from .findings import Finding

SCRIPTS = Path(__file__).parents[1] / "peers"
KINDS = ("read", "png", "jpeg")
TITLE = "JPEG export / vips dzsave"
DZSAVE = 2.5
LOADERS = ("OpenSlide", "libtiff")


def dzsave(bench):
    """Compare JPEG exports with libvips, both writing every tile of a slide of tissue.

    ``vips dzsave`` takes OpenSlide for such a file; told to read it with libtiff it is quicker.
    """
    if not shutil.which("vips"):
        note = "the command vips is not installed (Debian: libvips-tools)"
        return [Finding(TITLE, None, " x", DZSAVE, note=note)]
    sides = (bench.side, 2 * bench.side)
    return [each for side in sides for each in _beside_dzsave(bench, bench.full(side))]


def _beside_dzsave(bench, study):
    """Compare exports of one slide with one thread and with two, and both ways of reading it."""
    works = {}
    numbers = sorted({1, min(2, cores())})
    for workers in numbers:
        words = ("--format", "jpeg", "--workers", str(workers))
        works[f"ours {workers}"] = partial(bench.export, study, *words)
        for loader in LOADERS:
            works[f"{loader} {workers}"] = partial(_dzsave, bench, study, workers, loader)
    times = bench.best(works)
    # Several threads are of use by the clock alone.
    rates = {
        each: len(study) / (spent.counted if each.endswith("1") else spent.wall)
        for each, spent in times.items()
    }
    used = {each: spent.cpu / spent.wall for each, spent in times.items()}
    return [
        Finding(
            f"{TITLE} ({loader}), {len(study):,} patches, {workers} worker{'s' * (workers > 1)}",
            rates[f"ours {workers}"] / rates[f"{loader} {workers}"], " x", DZSAVE,
            note=f"{rates[f'ours {workers}']:,.0f} of {rates[f'{loader} {workers}']:,.0f} p/s",
            numbers={"rates": rates, "cores_used": used},
        )
        for workers in numbers
        for loader in LOADERS
    ]  # fmt: skip


def _dzsave(bench, study, workers, loader):
    """Write one level without overlap."""
    out = bench.memory / "dz"
    out.mkdir()
    if loader == "OpenSlide":
        command = [
            "vips", "dzsave", f"{study.slide}[access=sequential]", out / "slide",
            "--depth", "one", "--tile-size", "256", "--overlap", "0", "--suffix", ".jpg[Q=90]",
        ]  # fmt: skip
    else:
        options = "depth=one,tile-size=256,overlap=0,container=fs,suffix=.jpg[Q=90]"
        command = ["vips", "tiffload", study.slide, f"{out}/slide.dz[{options}]", "--access",
                   "sequential"]  # fmt: skip
    try:
        taken = run(command, environment={"VIPS_CONCURRENCY": str(workers)})
        count = sum(1 for _ in out.rglob("*.jpg"))
        if count != len(study):
            raise CommandError(f"vips wrote {count} tiles, not {len(study)}")
        return taken
    finally:
        shutil.rmtree(out, ignore_errors=True)


def peers(bench):
    """Compare reading, PNG and JPEG of other libraries, one process each, with an export."""
    study = bench.study()
    first = max(0, (len(study) - bench.peer_patches) // 2)
    places = study.boxes[first : first + bench.peer_patches, :2].tolist()
    boxes = bench.memory / "boxes.json"
    boxes.write_text(json.dumps(places), encoding="utf-8")
    pythons, skipped = {"OpenSlide + Pillow": (sys.executable, "with_openslide.py")}, {}
    for peer in PEERS:
        try:
            python = environment(peer, bench.folder / "environments")
            pythons[peer.name] = (python, peer.script)
        except (SkippedError, OSError) as error:
            skipped[peer.name] = str(error)
    works = {
        (name, kind): partial(_peer, bench, python, script, study.slide, boxes, kind)
        for name, (python, script) in pythons.items()
        for kind in KINDS
    }
    repeats = {key: 1 if key[1] == "png" else min(2, bench.repeats) for key in works}
    results = in_turn(works, repeats)
    rates = {name: {} for name in pythons}
    for (name, kind), given in results.items():
        problems = [one for one in given if isinstance(one, str)]
        if problems:
            skipped[name] = problems[0]
        else:
            rates[name][kind] = max(given)
    ours = {
        kind: len(study) / bench.best({kind: lambda k=kind: bench.export(
            study, "--format", k, "--workers", "1")})[kind].counted
        for kind in ("png", "jpeg")
    }  # fmt: skip
    found = [
        Finding(f"{kind.upper()} export / {name}", ours[kind] / each[kind], " x",
                note=f"{each[kind]:,.0f} p/s; reading alone {each['read']:,.0f}",
                numbers={"rates": each, "ours": ours})
        for kind in ("png", "jpeg")
        for name, each in rates.items()
        if name not in skipped
    ]  # fmt: skip
    return found + [Finding(name, None, note=reason) for name, reason in skipped.items()]


def _peer(bench, python, script, slide, boxes, kind):
    """Return the patches per second of one script, or why there are none."""
    out = bench.memory / "peer"
    try:
        taken = run([python, SCRIPTS / script, slide, boxes, out, kind], cwd=bench.memory)
    except CommandError as error:
        return str(error).strip().splitlines()[-1]
    finally:
        shutil.rmtree(out, ignore_errors=True)
    done = json.loads(taken.output.splitlines()[-1])
    return done["patches"] / done[{"wall": "seconds", "cpu": "cpu"}[bench.clock]]
