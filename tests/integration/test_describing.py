"""Descriptions of a run, read by the packages of their formats, without a network."""

import hashlib
import json
import socket

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.testing.projects import tree_hashes

from .test_corrected_runs import CONFIG, collected, export, said

LICENCE = "https://creativecommons.org/licenses/by/4.0/"
FILES = ("ro-crate-metadata.json", "croissant.json")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a description needs the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def rocrate():
    return pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed")


def mlcroissant():
    return pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")


def columns_in(out):
    """The rows of the index as Croissant can have them: texts are bytes there."""

    def told(value):
        if isinstance(value, str):
            return value.encode()
        return [told(each) for each in value] if isinstance(value, list) else value

    rows = qb.read_index(out).to_pylist()
    return [{name: told(value) for name, value in row.items()} for row in rows]


def test_rocrate_reads_files_slides_and_the_process(study):
    out = study.folder / "out"
    run = export(study.project, out)
    qb.split(out, folds=2, by="slide_id")
    made = qb.describe(run, name="Mine", license=LICENCE, creators=["Ann", "Bea"])
    assert (made.files, made.warnings) == (FILES, ())
    crate = rocrate().ROCrate(out)
    assert (crate.name, crate.license.id) == ("Mine", LICENCE)
    assert [person["name"] for person in crate.root_dataset["creator"]] == ["Ann", "Bea"]
    listed = {part.id for part in crate.root_dataset["hasPart"]}
    there = {f"{p.name}/" if p.is_dir() else p.name for p in out.iterdir()}
    assert listed == there - set(FILES)
    for entity in crate.data_entities:
        if entity.type == "File":
            content = (out / entity.id).read_bytes()
            assert entity["sha256"] == hashlib.sha256(content).hexdigest()
            assert entity["contentSize"] == str(len(content))
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    action = crate.root_dataset["mentions"]
    assert (action["startTime"], action["endTime"]) == (record["started"], record["finished"])
    assert action["description"] == " ".join(record["command"])
    assert action["instrument"]["version"] == qb.__version__
    assert action["result"].id == "./"
    for path, slide in zip(study.slides, action["object"], strict=True):
        with qb.open_reader(path) as reader:
            assert slide["identifier"] == f"xxh3_128:{reader.fingerprint.digest}"
        assert (slide["name"], slide["size"]) == (path.name, f"{path.stat().st_size} bytes")
    # Whatever an entity names by its id is in the crate.
    graph = json.loads((out / FILES[0]).read_text(encoding="utf-8"))["@graph"]
    known = {entity["@id"] for entity in graph}
    assert len(known) == len(graph)
    outside = {"https://w3id.org/ro/crate/1.1", "https://w3id.org/ro/wfrun/process/0.5",
               "http://schema.org/CompletedActionStatus"}  # fmt: skip
    assert set(references(graph)) <= known | outside


def references(value):
    """Yield every id to which an entity of a crate refers."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        if value.keys() == {"@id"}:
            yield value["@id"]
        for each in value.values():
            yield from references(each)


CONFIGS = {
    "folder": CONFIG,
    "tar": CONFIG.replace(container="tar", masks="both"),
    "masks beside patches": CONFIG.replace(masks="class"),
    "several labels": CONFIG.replace(rule="threshold", min_share=0.1),
    "around objects": qb.ExportConfig(size=64, around="annotations", edge="pad"),
}


# Of mlcroissant's own libraries, rdflib and pandas.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", CONFIGS)
def test_mlcroissant_reads_the_index(study, name):
    out = study.folder / "out"
    export(study.project, out, CONFIGS[name])
    qb.describe(out, ["croissant"], license=LICENCE, creators=["Ann"])
    dataset = mlcroissant().Dataset(jsonld=out / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert all("citeAs" in text for text in issues.warnings)  # nobody can know how to cite it
    found = list(dataset.records("patches"))
    rows = columns_in(out)
    assert len(found) == len(rows) > 0
    by_id = {row["patch_id"]: row for row in rows}
    left_out = {"slide_id", "shares", "metadata"}
    left_out |= {name for name in rows[0] if all(row[name] is None for row in rows)}
    for record in found:
        row = by_id[record["patches/patch_id"]]
        assert record.keys() == {f"patches/{name}" for name in row.keys() - left_out}
        for key, value in record.items():
            known = row[key.removeprefix("patches/")]
            nothing = value is None or value != value  # NaN
            assert value == known or (nothing and known is None), key
    (records,) = dataset.metadata.record_sets
    lists = {field.name for field in records.fields if field.repeated}
    assert lists == {
        name for name in rows[0].keys() - left_out if any(type(row[name]) is list for row in rows)
    }
    for file in dataset.metadata.file_objects:
        content = (out / file.content_url).read_bytes()
        assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_nothing_else_changes_and_the_run_goes_on(study):
    out = study.folder / "out"
    run = export(study.project, out)
    before = tree_hashes(study.folder)
    qb.describe(out)
    after = tree_hashes(study.folder)
    assert {str(name).rpartition("/")[2] for name in after.keys() - before.keys()} == set(FILES)
    assert {name: after[name] for name in before} == before
    qb.describe(out)
    assert tree_hashes(study.folder) == after  # the same bytes
    assert qb.verify(out).findings == ()
    row = run.table().to_pylist()[0]
    collected(study.project, [said(row, kind="rejected")])
    export(study.project, out, update=True)
    assert qb.verify(out).findings == ()
    assert (out / FILES[0]).read_bytes() and qb.clean(out) == 0
    qb.describe(out, ["ro-crate"])
    graph = json.loads((out / FILES[0]).read_text(encoding="utf-8"))["@graph"]
    (root,) = (entity for entity in graph if entity["@id"] == "./")
    assert root["identifier"] == json.loads((out / "run.json").read_bytes())["run_digest"]


def test_what_others_will_miss_is_said(study, capsys):
    out = study.folder / "out"
    export(study.project, out)
    made = qb.describe(out, ["croissant"])
    assert made.files == ("croissant.json",)
    assert not (out / "ro-crate-metadata.json").exists()
    assert ["licence" in text for text in made.warnings] == [True, False]
    with pytest.raises(UsageError, match="ro-crat"):
        qb.describe(out, ["ro-crat"])
    with pytest.raises(OutputError, match="contains no run"):
        qb.describe(study.folder)
    assert main(["describe", str(out), "--to", "ro-crate", "--license", LICENCE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["ro-crate-metadata.json"]
    text = json.loads((out / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    assert LICENCE in {entity["@id"] for entity in text["@graph"]}


def test_a_run_without_patches_is_described_too(study):
    out = study.folder / "out"
    run = export(study.project, out, CONFIG.replace(min_share=1.0, size=5000))
    assert run.written == 0
    qb.describe(out)
    slides = rocrate().ROCrate(out).root_dataset["mentions"]["object"]
    assert ["; 0 patches of it" in slide["description"] for slide in slides] == [True, True]
    assert json.loads((out / FILES[1]).read_bytes())["recordSet"] == []


def test_pseudonyms_stay_pseudonyms(study):
    out = study.folder / "out"
    key = study.folder / "key.json"
    export(study.project, out, pseudonymise=key)
    qb.describe(out)
    for name in FILES:
        text = (out / name).read_text(encoding="utf-8")
        for secret in ("slide 1", "1_slide", str(study.folder), study.slides[0].name):
            assert secret not in text
    assert '"name": "p-' in (out / FILES[0]).read_text(encoding="utf-8")
