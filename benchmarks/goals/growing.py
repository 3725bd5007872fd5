"""Time and memory as slides grow, and exports of very many patches."""

from benchmarks.common.slides import TILE

from .findings import Finding

MEMORY = 300
MANY_MEMORY = 500
SMALL_PATCH = 16
MANY = 1_000_000


def sides(bench):
    """Compare slides of the reference's side, and of twice as much: time and memory."""
    small, large = bench.study(), bench.study(2 * bench.side)
    words = ("--format", "jpeg", "--workers", "1")
    times = bench.best(
        {"small": lambda: bench.export(small, *words), "large": lambda: bench.export(large, *words)}
    )
    ratio = times["large"].counted / times["small"].counted
    numbers = {name: spent.counted for name, spent in times.items()}
    numbers["patches"] = [len(small), len(large)]
    note = f"{len(small):,} and {len(large):,} patches"
    found = [
        Finding("slide side x 2: time", ratio, " x", 4.2, True, note=note, numbers=numbers),
    ]
    return found + memory_at(bench, bench.side) + memory_at(bench, 2 * bench.side)


def memory_at(bench, side):
    """Measure the most memory of one export with two workers, all processes together."""
    study = bench.study(side)
    mib = bench.export(study, "--format", "jpeg", "--workers", "2", memory=True).mib
    note = f"{len(study):,} patches, 2 workers"
    return [Finding(f"memory at {side:,} px", mib, " MiB", MEMORY, True, note=note)]


def huge(bench):
    """Measure the memory at 80,000 px."""
    return memory_at(bench, 80_000)


def many(bench):
    """Measure the memory of a run of a million patches; small ones, or it would take an hour."""
    side = -(-round(MANY**0.5 * SMALL_PATCH) // TILE) * TILE
    study = bench.study(side, 1.0)
    taken = bench.export(
        study, "--size", str(SMALL_PATCH), "--format", "jpeg", "--container", "tar",
        "--workers", "2", memory=True,
    )  # fmt: skip
    count = (side // SMALL_PATCH) ** 2
    note = f"{count:,} patches of {SMALL_PATCH} px, {taken.seconds:.0f} s"
    return [Finding("memory of 1 M patches", taken.mib, " MiB", MANY_MEMORY, True, note=note)]
