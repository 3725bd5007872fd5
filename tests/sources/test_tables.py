"""Tables that list slides: how they are read, what is refused, and what only one slide lacks."""

import csv
import datetime as dt
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import ProjectError, UsageError
from qupath_bridge.sources import open_project, open_source
from qupath_bridge.sources.table_files import read_table
from tests.conftest import write_slides

ROWS = [
    {"path": "slides/A.tiff", "patient": "007", "diagnosis": "tumour", "label": ""},
    {"path": "slides/B.tiff", "patient": "1e5", "diagnosis": "Fuß, links", "label": "x"},
]


@pytest.fixture
def cohort(tmp_path):
    """A folder with two slides in a folder of their own."""
    write_slides(tmp_path / "slides", "AB")
    return tmp_path


def write_csv(path, rows, *, delimiter=",", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def tell(project):
    return [(slide.name, dict(slide.metadata)) for slide in project]


EXPECTED = [
    ("A.tiff", {"patient": "007", "diagnosis": "tumour"}),
    ("B.tiff", {"patient": "1e5", "diagnosis": "Fuß, links", "label": "x"}),
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_table_is_read_as_spreadsheets_write_it(cohort, delimiter, encoding):
    table = write_csv(cohort / "t.csv", ROWS, delimiter=delimiter, encoding=encoding)
    project = open_project(table)
    assert tell(project) == EXPECTED
    assert project.info.plain and project.info.folder == cohort


def test_parquet_table_gives_text(cohort):
    table = pa.table(
        {
            "path": [row["path"] for row in ROWS],
            "patient": ["007", None],
            "age": [61, 7],
            "dose": [0.5, float("nan")],
            "when": [dt.date(2024, 5, 1), None],
            "done": [True, False],
        }
    )
    pq.write_table(table, cohort / "t.parquet")
    assert tell(open_project(cohort / "t.parquet")) == [
        (
            "A.tiff",
            {"patient": "007", "age": "61", "dose": "0.5", "when": "2024-05-01", "done": "true"},
        ),
        ("B.tiff", {"age": "7", "done": "false"}),
    ]


def test_slides_of_a_table_have_the_ids_of_the_plain_files(cohort):
    table = write_csv(cohort / "t.csv", ROWS[::-1])
    listed = {slide.name: slide.entry_id for slide in open_project(table)}
    found = {slide.name: slide.entry_id for slide in open_project(cohort / "slides")}
    assert listed == found
    assert [slide.name for slide in open_project(table)] == ["B.tiff", "A.tiff"]  # its own order


def test_faults_of_a_table_are_listed_all_at_once(cohort):
    shutil.copy(cohort / "slides/A.tiff", cohort / "copy.tiff")
    rows = [*ROWS, {"path": "", "patient": "3"}, {"path": "copy.tiff"}, {"path": ROWS[1]["path"]}]
    with pytest.raises(UsageError) as caught:
        open_project(write_csv(cohort / "t.csv", rows))
    assert caught.value.message.splitlines()[1:] == [
        "  row 4: no path",
        "  rows 2 and 5: A.tiff and copy.tiff are the same slide",
        "  rows 3 and 6: B.tiff is listed twice",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("slide,x\na.svs,1\n", "no column 'path'; there is 'slide', 'x'"),
        ("path,x,x\na.svs,1,2\n", "several columns have one name: 'x'"),
        ("path,,x\na.svs,1,2\n", "column 2 has no name"),
        ("path,x\na.svs,1,2\n", "row 2 has 3 values for 2 columns"),
        ('path,x\n"a.svs,1\n', "line 2"),
        ("path\n", "the table lists no slide"),
        (b"path,x\na.svs,Fu\xdf\n", "not a table"),
    ],
)
def test_table_that_cannot_be_used_is_refused(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((UsageError, ProjectError)) as caught:
        open_project(path)
    assert said in str(caught.value)


def test_missing_and_unreadable_slides_end_nothing(cohort, capsys):
    (cohort / "slides/bad.svs").write_bytes(b"II*\0" + b"\xff" * 500)
    names = ["A.tiff", "gone 1.svs", "bad.svs", "B.tiff", "gone 2.svs"]
    rows = [{"path": f"slides/{name}", "site": "N"} for name in names]
    table = write_csv(cohort / "t.csv", rows)
    words = ["export", table, "--size", "64", "--no-labels", "--out", cohort / "out"]
    assert main([str(word) for word in words]) == 1
    errors = capsys.readouterr().err
    assert all(f"failed: {name}" in errors for name in ("gone 1.svs", "bad.svs", "gone 2.svs"))
    run = qb.Run.load(cohort / "out")
    assert sorted(slide["slide_name"] for slide in run) == ["A.tiff", "B.tiff"]
    assert run.written == 2 * 4 * 3  # 256 x 192 px in boxes of 64
    assert qb.verify(run).ok
    metadata = {tuple(each) for each in run.table().column("metadata").to_pylist()}
    assert metadata == {(("site", "N"),)}


def test_paths_of_another_computer_are_mapped(cohort, capsys):
    rows = [{"path": r"Z:\cohort\A.tiff"}, {"path": "file:/Z:/cohort/B.tiff"}]
    table = write_csv(cohort / "t.csv", rows)
    assert [slide.path for slide in open_project(table)] == [None, None]
    project = open_project(table, slide_map={r"Z:\cohort": str(cohort / "slides")})
    assert [slide.path.name for slide in project] == ["A.tiff", "B.tiff"]
    assert [s.entry_id for s in open_source(project.ref)] == [s.entry_id for s in project]
    project = open_project(table, search=[cohort], slide_map={"Y:": "/y"})
    assert [slide.path for slide in project] == [cohort / "slides/A.tiff", cohort / "slides/B.tiff"]
    assert project.problems == (f"No row of {table} fits the option slide_map Y:=/y.",)
    # A table from Windows has relative paths with backslashes.
    relative = write_csv(cohort / "r.csv", [{"path": r"slides\A.tiff"}])
    assert [slide.path for slide in open_project(relative)] == [cohort / "slides/A.tiff"]
    # `plan` takes the same options.
    words = ["plan", table, "--size", "64", "--no-labels", "--slide-map", rf"Z:={cohort}"]
    assert main([str(word) for word in words]) == 1
    assert f"{cohort / 'cohort/A.tiff'}" in capsys.readouterr().err


def test_every_command_takes_a_slide_a_folder_and_a_table(cohort, capsys):
    table = write_csv(cohort / "t.csv", ROWS)
    slides = cohort / "slides"
    for source, number in ((slides / "A.tiff", 1), (slides, 2), (table, 2)):
        assert len(qb.inspect(source)[0].slides) == number
        for command in ("inspect", "plan"):
            labels = ["--no-labels"] if command == "plan" else []
            assert main([command, str(source), *labels]) == 0
        out = cohort / f"out {source.name}"
        words = ["export", str(source), "--size", "64", "--no-labels", "--out", str(out)]
        assert main(words) == 0
        assert main(["verify", str(out)]) == 0
        assert len(qb.Run.load(out)) == number
    words = ["plan", str(table), "--size", "64", "--no-labels", "--where", "patient=007"]
    assert main(words) == 0
    assert "A.tiff" in capsys.readouterr().out


def test_bad_file_among_several_ends_nothing(cohort, capsys):
    bad = cohort / "bad.svs"
    bad.write_bytes(b"II*\0" + b"\xff" * 500)
    files = [str(path) for path in (cohort / "slides/A.tiff", bad, cohort / "slides/B.tiff")]
    out = str(cohort / "out")
    assert main(["export", *files, "--size", "64", "--no-labels", "--out", out]) == 1
    assert "failed: bad.svs" in capsys.readouterr().err
    assert len(qb.Run.load(out)) == 2


def test_values_keep_their_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Path , id\n a.svs , 007 \n\n,\n")
    table = read_table(path)
    assert (table.columns, table.column("path")) == (("Path", "id"), "Path")
    assert [(row.number, dict(row.cells)) for row in table.rows] == [
        (2, {"Path": "a.svs", "id": "007"})
    ]


def test_patches_of_slides_that_nobody_drew_on_are_kept_without_a_label(cohort):
    config = qb.ExportConfig(size=64)
    plans = qb.plan(cohort / "slides", config)
    assert [(len(plan), plan.label_counts()) for plan in plans] == [(4 * 3, {})] * 2
    plans = qb.plan(cohort / "slides", config.replace(background="normal"))
    assert plans.label_counts() == {"normal": 2 * 4 * 3}
    run = qb.export(cohort / "slides", cohort / "out", config)
    assert set(run.table().column("label").to_pylist()) == {None}
