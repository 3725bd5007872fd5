"""The benchmarks run, on a slide so small that nothing can be learned from their numbers."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

ROOT = Path(__file__).parents[2]
SIDE = 2048


@pytest.fixture(scope="module", autouse=True)
def root_on_path():
    """Import the benchmarks as a program in the root of the repository does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmarks")


def modules():
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        inside = path.relative_to(ROOT).with_suffix("").parts
        if not inside[-1].startswith("with_") and inside[-1] != "__main__":
            yield ".".join(part for part in inside if part != "__init__")


@pytest.mark.parametrize("name", list(modules()))
def test_modules_can_be_imported(name):
    importlib.import_module(name)


def test_slide_has_tissue_of_the_example_where_the_regions_are(folder):
    slides = importlib.import_module("benchmarks.common.slides")
    studies = importlib.import_module("benchmarks.common.studies")
    path = slides.write_slide(folder / "slide.svs", SIDE)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (SIDE, SIDE)
        assert slide.level_downsamples == (1.0, 4.0)
        assert float(slide.properties["openslide.mpp-x"]) == slides.MPP
        pixels = np.asarray(slide.read_region((0, 0), 0, (SIDE, SIDE)).convert("L"))
        small = np.asarray(slide.read_region((0, 0), 1, (SIDE // 4, SIDE // 4)).convert("L"))
    means = pixels.reshape(SIDE // 4, 4, SIDE // 4, 4).mean((1, 3))
    assert np.abs(means - small).mean() < 3
    areas = [polygon.area for _, polygon in studies.label_regions(SIDE)]
    assert abs(sum(areas) / SIDE**2 - slides.SHARE) < 0.005
    # White is also in the tissue; the glass has no colour anywhere.
    assert 0.8 * slides.SHARE < (np.abs(pixels.astype(int) - slides.GLASS) > 5).mean() < 0.29
    again = slides.write_slide(folder / "again.svs", SIDE)
    assert again.read_bytes() == path.read_bytes()


def test_slide_of_channels_has_the_tiles_that_it_lists(folder):
    """As tifffile reads it, and as the reader does, of which only few are stored."""
    slides = importlib.import_module("benchmarks.common.channel_slides")
    readers = importlib.import_module("qupath_bridge.readers")
    path = slides.write_slide(folder / "channels.ome.tif", 1000, 5)
    tiles = list(slides.make_tiles())
    expected = np.empty((5, 1024, 1024), np.uint16)
    for channel, index in np.ndindex(5, 16):
        y, x = (256 * place for place in divmod(index, 4))
        expected[channel, y : y + 256, x : x + 256] = tiles[slides.tile_of(channel, index)]
    with tifffile.TiffFile(path) as file:
        assert [level.shape for level in file.series[0].levels] == [
            (5, 1000, 1000), (5, 250, 250), (5, 62, 62)
        ]  # fmt: skip
        np.testing.assert_array_equal(file.asarray(), expected[:, :1000, :1000])
    with readers.open_reader(path) as reader:
        assert reader.channels == tuple(f"Marker {n}" for n in range(1, 6))
        assert reader.pixel_size == (slides.MPP, slides.MPP)
        box = importlib.import_module("qupath_bridge.model").Box(200, 300, 400, 500)
        found, _ = reader.read(box, (400, 500))
    np.testing.assert_array_equal(found, np.moveaxis(expected[:, 300:800, 200:600], 0, -1))
    assert path.stat().st_size < 24 * 256 * 256 * 2


def test_plain_script_makes_the_patches_that_the_plan_names(folder):
    studies = importlib.import_module("benchmarks.common.studies")
    study = studies.make_study(folder / "studies", SIDE)
    script = ROOT / "benchmarks" / "peers" / "plain_script.py"
    out = folder / "plain"
    words = [study.slide, study.regions_file, out, "jpeg"]
    subprocess.run([sys.executable, script, *words], check=True, capture_output=True)
    names = {path.stem for path in out.rglob("*.jpeg")}
    assert names == {f"{x}_{y}" for x, y in study.boxes[:, :2].tolist()}
    assert len(names) > 5


@pytest.mark.slow
def test_program_measures_what_it_is_asked_for(folder):
    result = folder / "result.json"
    command = [
        sys.executable, "-m", "benchmarks", "--quick", "--side", str(SIDE), "--cache",
        str(folder / "cache"), "--json", str(result),
    ]  # fmt: skip
    for name in ("reads", "jpeg", "bytes", "sides"):
        command += ["--only", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(result.read_text(encoding="utf-8"))["findings"]
    assert list(findings) == ["reads", "jpeg", "bytes", "sides"]
    every = [one for each in findings.values() for one in each]
    # So small a slide takes no longer than the start of the process, and that is said.
    values = [one["value"] for one in every if "start-up" not in one["name"]]
    assert len(values) > 10 and all(value is not None and value > 0 for value in values)
    (same,) = findings["bytes"]
    assert same["held"]
    chart = importlib.import_module("benchmarks.report").chart(json.loads(result.read_text()))
    assert chart.startswith("<svg") and "plain script" in chart


@pytest.mark.slow
def test_a_line_that_fails_does_not_stop_the_others(folder, monkeypatch, capsys):
    program = importlib.import_module("benchmarks.__main__")

    def fails(bench):
        raise OSError("no room")

    monkeypatch.setattr(program, "GOALS", {"first": fails, "bytes": program.GOALS["bytes"]})
    result = folder / "failed.json"
    words = ["--quick", "--side", str(SIDE), "--cache", str(folder / "cache")]
    assert program.main([*words, "--json", str(result)]) == 1
    findings = json.loads(result.read_text(encoding="utf-8"))["findings"]
    (failed,), (same,) = findings["first"], findings["bytes"]
    assert failed["value"] is None and "no room" in failed["note"]
    assert same["held"]
    assert "no room" in capsys.readouterr().out


def test_goals_are_limits_in_both_directions():
    finding = importlib.import_module("benchmarks.goals.findings").Finding
    assert finding("a", 0.85, goal=0.85).held and finding("a", 300, goal=300, at_most=True).held
    assert finding("a", 0.84, goal=0.85).held is False
    assert finding("a", 301, goal=300, at_most=True).held is False
    assert finding("a", 1).held is None and finding("a", None, goal=1).held is None


def test_memory_counts_children():
    processes = importlib.import_module("benchmarks.common.processes")
    hold = "import time; x = bytearray(60_000_000); time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    taken = processes.run([sys.executable, "-c", parent], memory=True)
    assert taken.mib > 60
    assert taken.seconds > 1 > taken.cpu_seconds


def test_table_of_the_page_is_that_of_the_kept_numbers():
    report = importlib.import_module("benchmarks.report")
    result = json.loads(report.REFERENCE.read_text(encoding="utf-8"))
    page = report.PAGE.read_text(encoding="utf-8")
    assert page == report.with_table(page, result), "run python -m benchmarks.report"
    assert report.CHART.read_text(encoding="utf-8") == report.chart(result)


def test_slides_in_place(capsys):
    """Both ways export the same patches, and one fetches less."""
    in_place = importlib.import_module("benchmarks.in_place")
    in_place.main(
        ["--side", "4096", "--latency", "0", "5", "--few", "2", "--repeats", "1", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    lines = found["lines"]
    assert [(line["latency_ms"], line["fetch"]) for line in lines] == [
        (latency, way) for latency in (0, 5) for way in ("copy", "ranges", "ranges") * 2
    ]
    for kind in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert len({line["patches"] for line in kind}) == 1
    assert lines[0]["copy_bytes"] == found["slide_bytes"]
    assert 0 < lines[1]["pixel_bytes_needed"] < found["slide_bytes"]
    assert "| 5 ms | 2 | ranges | " in in_place.table(found)


@pytest.mark.slow
def test_the_api_is_measured_with_a_database_that_is_filled(capsys):
    service = importlib.import_module("benchmarks.service")
    words = "--patches 2500 --slides 20 --jobs 3 --requests 2 --clients 1,2 --exports 2 --json"
    service.main(words.split())
    found = json.loads(capsys.readouterr().out)
    assert (found["patches"], found["slides"], found["jobs"]) == (2500, 20, 4)
    assert "SQLite" in found["databases"]
    for each in found["databases"].values():
        assert all(by["2"]["p95"] > 0 for by in each["milliseconds"].values())
        assert min(*each["api_mib"], *each["worker_mib"], each["bytes_per_patch"]) > 0
    assert "GET /jobs/ID/patches" in service.table(found)
