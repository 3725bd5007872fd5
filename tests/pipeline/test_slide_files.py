"""What a project alone says of a slide, missing files and missing data, as people are told."""

from dataclasses import replace
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import (
    CoordinateError,
    MissingDataError,
    MissingSlideError,
    PlanError,
)
from qupath_bridge.model import ImageData, ServerBuilder
from qupath_bridge.pipeline.plan import Failure
from qupath_bridge.pipeline.slide_files import (
    failure_lines,
    read_annotations,
    recorded_pixels,
    slide_path,
)
from qupath_bridge.sources.base import missing_data
from qupath_bridge.sources.memory import memory_slide

RGB = ("Red", "Green", "Blue")


def recorded(is_rgb=True, pixel_type="UINT8", channels=RGB, **more):
    slide = memory_slide("1", "a.tif", path=Path("/s/a.tif"))
    return replace(slide, is_rgb=is_rgb, pixel_type=pixel_type, channels=channels, **more)


@pytest.mark.parametrize(
    ("slide", "said"),
    [
        (recorded(), "RGB of 8 bit"),
        (recorded(None, None, ()), None),
        (recorded(False, "UINT16", ("x",) * 33), "fluorescence, 33 channels of 16 bit"),
        (recorded(False, "UINT8", ("DAPI", "FITC", "Cy5")), "fluorescence, 3 channels of 8 bit"),
        (recorded(True, "UINT16"), "RGB of 16 bit"),
        (recorded(False, "UINT8", ("Gray",)), "one channel of 8 bit"),
        (
            recorded(False, "FLOAT32", ("a", "b")),
            "fluorescence, 2 channels of 32 bit (floating point)",
        ),
        (recorded(None, "INT8", ()), "not RGB of 8 bit"),
        (recorded(None, None, ("a", "b")), "fluorescence, 2 channels"),
        (recorded(False, None, ()), "not RGB"),
    ],
)
def test_recorded_pixels_in_words_whatever_they_are(slide, said):
    """And none of them is refused before the file is opened."""
    assert recorded_pixels(slide) == said
    assert slide_path(slide) == Path("/s/a.tif")


def test_another_series_is_refused_before_the_file_is_looked_for():
    builder = {"builderType": "uri", "uri": "file:/x/a.czi", "args": ["-s1"]}
    slide = memory_slide("1", "a.czi", builder=ServerBuilder(builder))
    with pytest.raises(CoordinateError, match="series 1"):
        slide_path(slide)


def missing(uri, name="a.svs"):
    slide = replace(memory_slide("1", name), uri=uri, tried=("beside: /p/a.svs",))
    with pytest.raises(MissingSlideError) as caught:
        slide_path(slide)
    return Failure.of(slide, caught.value)


def test_a_missing_file_is_one_message_with_places_and_hint():
    (line,) = failure_lines([missing("file:/I:/COAD/1/a%20b.svs")])
    assert line.startswith("a.svs (entry 1): the slide file I:\\COAD\\1\\a b.svs was not found.")
    assert "beside: /p/a.svs" in line
    assert "slide_map" in line


@pytest.mark.parametrize(
    ("uris", "lines"),
    [
        (
            [f"file:/I:/COAD/{n}/TCGA-{n}.svs" for n in range(434)],
            ["434 slides below I:\\COAD are not here; try the option slide_map 'I:\\COAD=…'"],
        ),
        (
            [f"file:/data/a/{n}.svs" for n in range(3)] + ["file:/Z:/b/c/x.svs"],
            [
                "3 slides below /data/a are not here; try the option slide_map '/data/a=…'",
                "1 slide below Z:\\b\\c is not here; try the option slide_map 'Z:\\b\\c=…'",
            ],
        ),
        (
            ["file:/a/x/1.svs", "file:/a/xy/2.svs", "file:/a/x/3.svs", "file:/b/4.svs"],
            ["4 slides below / are not here; try the option slide_map '/=…'"],
        ),
        (
            [f"https://h/{n}.svs" for n in range(4)],
            ["4 slides are not files on this computer: https://h/0.svs, https://h/1.svs, "
             "https://h/2.svs and 1 more"],
        ),
    ],
)  # fmt: skip
def test_more_than_three_missing_files_are_told_together(uris, lines):
    other = Failure.of(memory_slide("9", "b.svs"), PlanError("b.svs: Too small.", hint="Zoom."))
    failures = [missing(uri) for uri in uris]
    first, *groups = failure_lines([*failures, other])
    assert first == "b.svs (entry 9): Too small. Zoom."
    assert [line.removesuffix(", or the option search DIR") for line in groups] == lines
    assert len(list(failure_lines(failures[:3]))) == 3


def test_more_than_three_failures_of_one_cause_are_told_together(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    flat = ServerBuilder({"builderType": "z_projected"})
    failures = []
    for slide in [replace(recorded(), name=f"{n}.tif", builder=flat) for n in "abcde"]:
        with pytest.raises(CoordinateError) as caught:
            slide_path(slide)
        failures.append(Failure.of(slide, caught.value))
    for entry_id in ("1", "12", "3", "4"):
        error = missing_data(data / entry_id)
        failures.append(Failure.of(memory_slide(entry_id, f"s{entry_id}"), error))
    first, second = failure_lines(failures)
    assert first.startswith("5 slides (a.tif, b.tif, c.tif and 2 more): QuPath opens this image")
    assert "'z_projected'" in first
    place = data / "ENTRY_ID"
    assert second.startswith(f"4 slides (s1, s12, s3 and 1 more): {place}: the folder of this")
    assert "Copy the folder data/ENTRY_ID from" in second
    assert len(list(failure_lines(failures[2:8]))) == 6  # three and three


def unread(error):
    def load(detections):
        raise error

    return replace(memory_slide("1", "a.svs"), _load=load)


@pytest.mark.parametrize("whole", [True, False])
def test_missing_data_matter_only_where_regions_are_needed(whole):
    slide = unread(MissingDataError("no folder", path="/p/data/1", whole_project=whole))
    for config in (
        qb.ExportConfig(),
        qb.ExportConfig(background="normal"),
        qb.ExportConfig(labels=False, within=["Tumor"]),
    ):
        with pytest.raises(MissingDataError):
            read_annotations(slide, config)
    read = read_annotations(slide, qb.ExportConfig(labels=False))
    problems = () if whole else ("/p/data/1: no folder.",)
    assert read == ImageData(problems=problems)


@pytest.mark.parametrize(
    ("config", "whole", "ways"),
    [
        (qb.ExportConfig(), True, "Or leave labels out with the option labels."),
        (
            qb.ExportConfig(),
            False,
            "Or select other slides with the option entry, or leave labels out with the option "
            "labels.",
        ),
        (
            qb.ExportConfig(labels=False, within=["Tumor"]),
            False,
            "Or select other slides with the option entry.",
        ),
        (qb.ExportConfig(labels=False, within=["Tumor"]), True, ""),
    ],
)
def test_advice_on_missing_data_is_what_was_not_done_yet(config, whole, ways):
    slide = unread(MissingDataError("no folder", path="/p", hint="Copy it.", whole_project=whole))
    with pytest.raises(MissingDataError) as caught:
        read_annotations(slide, config)
    assert caught.value.hint == f"Copy it. {ways}".strip()
    assert caught.value.whole_project is whole
    assert str(caught.value).startswith("/p: no folder. Copy it.")
