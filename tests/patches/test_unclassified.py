"""Regions without a class: their names as classes, and advice where none has a class."""

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.model import LabelRule
from qupath_bridge.patches.unclassified import RegionCounts, count_regions, unclassified_note
from qupath_bridge.testing.projects import Image, Region, build_memory_project, build_project


def box(x):
    return f"POLYGON (({x} 0, {x + 64} 0, {x + 64} 64, {x} 64, {x} 0))"


def project(path, *regions, size=64):
    return build_memory_project([Image(path, list(regions), pixel_size=0.5)])


def labels(path, regions, **options):
    slide = project(path, *regions).slides[0]
    return qb.plan(slide, qb.ExportConfig(size=64, **options)).label_counts()


REGIONS = [
    Region(None, box(0), name="Gland"),
    Region(None, box(64), name=" Gland "),
    Region(None, box(128), name="  "),
    Region(None, box(192)),
    Region("Tumor", box(256), name="Gland"),
    Region(None, box(320), name="Ignore*"),
]


def test_names_of_unclassified_regions_are_labels(two_slides):
    """By hand: six boxes of 64 pixels, each filled by one region."""
    assert labels(two_slides[0], REGIONS) == {"Tumor": 1}
    assert labels(two_slides[0], REGIONS, unclassified="name") == {"Gland": 2, "Tumor": 1}


def test_names_are_classes_for_every_rule_about_classes(two_slides):
    slide = project(two_slides[0], *REGIONS).slides[0]
    config = qb.ExportConfig(size=64, unclassified="name")
    plan = qb.plan(slide, config)
    assert plan.report.skipped == {"unclassified": 2}
    assert plan.dropped[qb.Reason.EXCLUDED] == 1  # the region that is called Ignore*
    mapped = config.replace(map={"Gland": "G"})
    assert qb.plan(slide, mapped).label_counts() == {"G": 2, "Tumor": 1}
    excluded = config.replace(exclude=["Gland"])
    assert qb.plan(slide, excluded).label_counts() == {"Tumor": 1}
    within = config.replace(within=["Gland"])
    assert qb.plan(slide, within).label_counts() == {"Gland": 2}
    plans = qb.plan([slide], mapped)  # names are known as classes
    assert plans.warnings == ()
    with pytest.raises(qb.ConfigError, match="no class 'Glands'; did you mean 'Gland'"):
        qb.plan([slide], config.replace(map={"Glands": "G"}))


def test_renaming_a_region_changes_the_plan_only_where_names_count(two_slides):
    before, after = (
        project(two_slides[0], Region(None, box(0), name=name)).slides[0] for name in "AB"
    )
    for unclassified, same in (("skip", True), ("as=X", True), ("name", False)):
        config = qb.ExportConfig(size=64, unclassified=unclassified)
        assert (qb.plan(before, config) == qb.plan(after, config)) is same


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_export_by_names(two_slides, tmp_path, runner):
    path = build_project(tmp_path / "study", [Image(two_slides[0], REGIONS, pixel_size=0.5)])
    config = qb.ExportConfig(size=64, unclassified="name")
    run = qb.export(path, tmp_path / "out", config, runner=runner, workers=1, engine="embedded")
    assert run.label_counts() == {"Gland": 2, "Tumor": 1}
    assert qb.verify(run).ok


NOTES = {
    "none has a class": ({}, "None of the 3 regions has a class", "as=LABEL"),
    "names": ({"named": 2}, "2 of them have one", "unclassified name"),
    "as": ({"rule": LabelRule(unclassified="as", unclassified_as="X")}, None, None),
    "error": ({"rule": LabelRule(unclassified="error")}, None, None),
    "no labels": ({"rule": LabelRule(labels=False)}, None, None),
    "by name": ({"rule": LabelRule(unclassified="name")}, "has a class or a name", "as=LABEL"),
    "one has a class": ({"unclassified": 2}, None, None),
    "nothing drawn": ({"regions": 0, "unclassified": 0}, None, None),
}


@pytest.mark.parametrize(("case", "words", "option"), NOTES.values(), ids=NOTES)
def test_note_where_no_region_has_a_class(case, words, option):
    counts = {"regions": 3, "unclassified": 3, "named": 0}
    counts |= {key: value for key, value in case.items() if key != "rule"}
    note = unclassified_note(
        [RegionCounts(**counts), RegionCounts()], case.get("rule", LabelRule())
    )
    assert (note is None) is (words is None)
    if words:
        assert words in note and option in note
        assert ("unclassified name" in note) is (counts["named"] > 0)


def test_regions_are_counted_not_points(two_slides):
    slide = project(two_slides[0], *REGIONS, Region(None, "POINT (1 1)", name="p")).slides[0]
    assert count_regions(slide.read().annotations) == RegionCounts(6, 5, 3)


def test_run_without_any_class_says_so(two_slides, tmp_path, capsys):
    images = [Image(path, REGIONS[:1], pixel_size=0.5) for path in two_slides]
    study = build_project(tmp_path / "study", images)
    words = [str(study), "--size", "64"]
    note = (
        "None of the 2 regions has a class, so all are skipped: label them with "
        "--unclassified as=LABEL, or by their names with --unclassified name (2 of them have one)."
    )
    for command in (["plan", *words], ["export", *words, "--out", str(tmp_path / "out")]):
        main(command)
        assert f"warning: {note}\n" in capsys.readouterr().err
    assert main(["plan", *words, "--unclassified", "name"]) == 0
    printed = capsys.readouterr()
    assert "Gland" in printed.out and "None of the" not in printed.err


def test_nothing_is_said_of_no_slides():
    assert unclassified_note([], LabelRule()) is None
