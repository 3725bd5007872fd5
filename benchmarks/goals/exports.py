"""Whole labelled exports by the command line, beside their serial limit and the plain script."""

import hashlib
import shutil
import sys
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.common.machine import cores
from benchmarks.common.processes import run

from .findings import Finding
from .parts import Parts, decoders, encoder_of, serial_limit

PLAIN = Path(__file__).parents[1] / "peers" / "plain_script.py"
LIMIT = 0.85
TIMES_PLAIN = {"png": 11}
SMALL = 1024  # side of a slide of 16 patches: what is left is the start
SURE = 0.05  # seconds that are more than noise


def plain_script(bench, study, kind):
    """Run the plain script once in a process of its own."""
    out = bench.memory / "plain"
    try:
        return run([sys.executable, PLAIN, study.slide, study.regions_file, out, kind])
    finally:
        shutil.rmtree(out, ignore_errors=True)


def whole(bench, kind):
    """Compare exports of one format with the serial limit, the plain script and two workers."""
    study = bench.study()
    more = {
        "on disk": exporting(bench, study, kind, 1, place=bench.disk),
        "tar": exporting(bench, study, kind, 1, "--container", "tar"),
        "plain": partial(plain_script, bench, study, kind),
    }
    repeats = {"on disk": 1, "tar": 1}
    if kind == "png":
        repeats["plain"] = 1  # takes longer than all others together
    numbers = measure(bench, study, kind, more, repeats)
    return [
        *_limits(kind, numbers, bench.clock),
        *_beside(kind, numbers),
        *_workers(kind, numbers),
    ]


def larger(bench):
    """Compare exports of a slide with twice the side, of which the start is a smaller part."""
    side = 2 * bench.side
    study, found = bench.study(side), []
    for kind in ("png", "jpeg"):
        plain = {"plain": partial(plain_script, bench, study, kind)}
        numbers = measure(bench, study, kind, plain, {"plain": 1})
        where = f" at {side:,} px"
        found += _limits(kind, numbers, bench.clock, where)
        found.append(_beside_plain(kind, numbers, where))
        found += _workers(kind, numbers, where)
    return found


def exporting(bench, study, kind, workers, *words, place=None):
    """Return a work that exports a study once."""
    words = ("--format", kind, "--workers", str(workers), *words)
    return lambda: bench.export(study, *words, place=place)


def measure(bench, study, kind, more=None, repeats=None):
    """Return the rates of exports of one format, and of their parts, by both clocks."""
    small, parts, encoder = bench.study(SMALL, 1.0), Parts(study), encoder_of(kind)
    files = [encoder(pixels) for pixels in parts.pixels]
    written = []
    works = {name: partial(parts.decode, each) for name, each in decoders().items()}
    works |= {
        "decode twice": partial(parts.decode_twice, decoders()["imagecodecs"]),
        "encode": partial(parts.encode, encoder),
        "write": lambda: written.append(parts.write(files, bench.memory)),
        "start": exporting(bench, small, kind, 1),
        "1 worker": exporting(bench, study, kind, 1),
        "2 workers": exporting(bench, study, kind, 2),
        **(more or {}),
    }
    times = bench.best(works, dict.fromkeys(works, bench.repeats) | (repeats or {}))
    for place in written:
        shutil.rmtree(place, ignore_errors=True)
    counts = dict.fromkeys(works, len(study))
    counts |= {"decode twice": 2 * len(study), "encode": len(parts.pixels), "start": len(small)}
    numbers = {
        clock: _rates(counts, {name: getattr(spent, clock) for name, spent in times.items()})
        for clock in ("wall", "cpu")
    }
    return numbers | {"patches": len(study), "rates": numbers[bench.clock]}


def _rates(counts, seconds):
    """Return patches per second, those without start-up, and the serial limit."""
    rates = {name: counts[name] / max(spent, 1e-9) for name, spent in seconds.items()}
    decode = max(rates[name] for name in decoders())
    rates["decode"] = decode
    rates["limit"] = serial_limit(decode, rates["encode"], rates["write"])
    for name in ("1 worker", "2 workers"):
        more = seconds[name] - seconds["start"]
        if more > SURE:
            rates[f"{name} after start"] = (counts[name] - counts["start"]) / more
    return rates


def _limits(kind, numbers, clock, where=""):
    """Return how close exports with one worker come to the serial limit."""
    rates, title = numbers["rates"], f"{kind.upper()} export"
    ours, limit, after = rates["1 worker"], rates["limit"], rates.get("1 worker after start")
    parts = ", ".join(f"{name} {rates[name]:,.0f}" for name in ("decode", "encode", "write"))
    other = {"wall": "cpu", "cpu": "wall"}[clock]
    beside = {"cpu": "processor time", "wall": "the clock"}[other]
    by_other = numbers[other]["1 worker"] / numbers[other]["limit"]
    return [
        Finding(
            f"{title}{where} / its serial limit", ours / limit, goal=LIMIT, numbers=numbers,
            note=f"{ours:,.0f} of {limit:,.0f} p/s ({parts}); by {beside} {by_other:.2f}",
        ),
        Finding(
            f"{title} without start-up{where} / its serial limit",
            after and after / limit, goal=LIMIT,
            note=f"{after:,.0f} p/s" if after else "the start takes longer than the work",
        ),
    ]  # fmt: skip


def _beside_plain(kind, numbers, where=""):
    """Return an export beside the plain script."""
    rates = numbers["rates"]
    return Finding(
        f"{kind.upper()} export{where} / plain script", rates["1 worker"] / rates["plain"], " x",
        TIMES_PLAIN.get(kind), note=f"the script {rates['plain']:,.0f} p/s",
    )  # fmt: skip


def _beside(kind, numbers):
    """Return exports beside the plain script, and to other places."""
    rates, title = numbers["rates"], kind.upper()
    return [
        _beside_plain(kind, numbers),
        Finding(f"{title} to a disk", numbers["wall"]["on disk"], " p/s",
                note="one try, by the clock"),
        Finding(f"{title} to a tar file in memory", rates["tar"], " p/s", note="one try"),
    ]  # fmt: skip


def _workers(kind, numbers, where=""):
    """Return what a second worker gains, where there are cores for two."""
    if cores() < 2:
        return []
    wall = numbers["wall"]
    note = f"{wall['2 workers']:,.0f} p/s"
    later = [wall.get(f"{name} after start") for name in ("1 worker", "2 workers")]
    if all(later):
        note += f"; without start-up {later[1] / later[0]:.2f} x"
    possible = wall["decode twice"] / wall["imagecodecs"]
    note += f"; decoding alone in 2 threads {possible:.2f} x"
    gain = wall["2 workers"] / wall["1 worker"]
    return [Finding(f"{kind.upper()}{where}, 2 workers / 1", gain, " x", 1.8, note=note)]


def png(bench):
    """Compare PNG."""
    return whole(bench, "png")


def jpeg(bench):
    """Compare JPEG, quality 90."""
    return whole(bench, "jpeg")


def same_bytes(bench):
    """Compare the patches and the index that 1 and 2 workers make."""
    study, found = bench.study(), []
    for workers in "12":
        bench.export(study, "--workers", workers, keep=lambda out: found.append(contents(out)))
    same = found[0] == found[1] and len(found[0]) > len(study)
    return [
        Finding("same bytes with 1 and 2 workers", float(same), goal=1,
                note=f"{len(study):,} patches and the index"),
    ]  # fmt: skip


def contents(out):
    """Return digests of all patches, and the index without what differs between any two runs."""
    digests = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*.png"))
    }
    for path in sorted(out.rglob("*.parquet")):
        table = pq.read_table(path)
        columns = [name for name in table.column_names if name != "run_id"]
        digests[path.name] = table.select(columns).to_pylist()
    return digests


def pass_through(bench):
    """Measure exports that copy file tiles, with and without the start of the process."""
    name = "pass-through to memory, without start-up"
    if not bench.has("--passthrough"):
        return [Finding(name, None, " p/s", 15_000, note="--passthrough is not available")]
    # A large slide: on a small one the start of the process is all there is to measure.
    study, small = bench.study(2 * bench.side), bench.study(SMALL, 1.0)
    words = ("--format", "jpeg", "--passthrough", "auto", "--workers", "1")
    parts, written = Parts(study), []
    with study.slide.open("rb") as file:
        files = []
        for offset, length in parts.places:
            file.seek(offset)
            files.append(file.read(length))
    times = bench.best(
        {
            "read": parts.read,
            "write": lambda: written.append(parts.write(files, bench.memory)),
            "whole": lambda: bench.export(study, *words),
            "tar": lambda: bench.export(study, *words, "--container", "tar"),
            "start": lambda: bench.export(small, *words),
        }
    )
    for place in written:
        shutil.rmtree(place, ignore_errors=True)
    copying = {name: times[name].counted - times["start"].counted for name in ("whole", "tar")}
    if min(copying.values()) < SURE:
        return [Finding(name, None, " p/s", 15_000, note="the start takes longer than the copying")]
    more = len(study) - len(small)
    rates = {
        "read": len(study) / times["read"].counted,
        "write": len(study) / times["write"].counted,
        "whole": len(study) / times["whole"].counted,
        "without start": more / copying["whole"],
        "tar without start": more / copying["tar"],
    }
    limit = serial_limit(rates["read"], rates["write"])
    note = (
        f"whole process {rates['whole']:,.0f}; tar {rates['tar without start']:,.0f}; "
        f"copying files alone {limit:,.0f}"
    )
    return [Finding(name, rates["without start"], " p/s", 15_000, note=note, numbers=rates)]
