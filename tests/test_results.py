"""What the functions of the API return: values that can be compared, pickled, and shown."""

import pickle
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.config import options
from qupath_bridge.frozen import MAX_LINE
from qupath_bridge.pipeline.estimate import Estimate
from qupath_bridge.testing.projects import Region, build_project

CLASS = '<b>&"x"\' ' + "long-name-é-中-" * 5
NASTY = '<b>&"x"\'\n' + "long name é 中 " * 20
CONFIG = qb.ExportConfig(size=100, edge="pad")


@pytest.fixture(scope="module")
def project(tmp_path_factory, two_slides, draw):
    """A project in which slides, classes and annotations have long names with markup in them."""
    first, second = draw.images(two_slides)
    region = Region(CLASS, "POLYGON ((0 0, 300 0, 300 300, 0 300, 0 0))", name=CLASS)
    images = [
        replace(first, name=NASTY, regions=[region], metadata={NASTY: NASTY}, tags=[NASTY]),
        replace(second, name=f"{NASTY}2", regions=[region]),
    ]
    path = build_project(tmp_path_factory.mktemp("study") / ("folder " * 20).strip(), images)
    with qb.open_project(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def plans(project):
    return qb.plan(project, CONFIG)


@pytest.fixture(scope="module")
def run(project, plans, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / ("patches " * 20).strip()
    return qb.export(project, out, CONFIG, options=qb.RunOptions(progress="none"))


@pytest.fixture(scope="module")
def results(project, plans, run):
    """One value of each kind that a public function returns, or takes."""
    failure = qb.Failure.of(project.slides[0], qb.SlideError(NASTY, hint=NASTY))
    slide = project.slides[0]
    data = slide.read(detections=True)
    settings = qb.Settings(
        qb.Selection(entry=[NASTY] * 50, where={NASTY: [NASTY]}),
        CONFIG.replace(map={NASTY: NASTY}),
        qb.RunOptions(search=[NASTY] * 50),
    )
    task = qb.SlideTask(
        project.ref, "1", NASTY, CONFIG, settings.options, {NASTY: NASTY}, run.url, run.run_id
    )
    return [
        project, slide, data, data.annotations[0], data.annotations[0].roi,
        plans[0], plans, qb.Plans(list(plans) * 500, [failure] * 500, [NASTY]), plans[0].grid,
        run, settings.selection, settings.config, settings.options, settings,
        qb.inspect(project)[0], qb.estimate(plans), qb.verify(run, pixels=1),
        *qb.status(project), *qb.status(project)[0].entries,
        qb.write_back(project, run, engine="embedded", dry_run=True),
        *qb.write_back(project, run, engine="embedded", dry_run=True).entries,
        qb.write_provenance(project, run),
        task, qb.SlideResult("1", NASTY, NASTY, failure=failure, warnings=(NASTY,) * 9), failure,
        qb.Finding(NASTY, NASTY, NASTY), qb.Check(NASTY, NASTY, NASTY, NASTY),
        qb.Progress(1, 2, 3, 4, NASTY), *options(),
    ]  # fmt: skip


KINDS = (
    qb.Project, qb.Slide, qb.ImageData, qb.PathObject, qb.Roi, qb.Plan, qb.Plans, qb.Grid, qb.Run,
    qb.Selection, qb.ExportConfig, qb.RunOptions, qb.Settings, qb.Option, qb.Inspection,
    qb.Estimate, qb.Verification, qb.RunStatus, qb.EntryStatus, qb.WriteBack, qb.EntryChange,
    qb.Provenance, qb.SlideTask, qb.SlideResult, qb.Failure, qb.Finding, qb.Check, qb.Progress,
)  # fmt: skip


def test_every_kind_of_result_is_looked_at(results):
    assert {type(value) for value in results} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_repr_of_results_is_one_short_line(results, kind):
    for value in results:
        if type(value) is kind:
            text = repr(value)
            assert len(text) <= MAX_LINE
            assert len(text.splitlines()) == 1
            assert text.startswith(f"{kind.__name__}(")


def test_repr_says_what_matters(project, plans, run):
    assert repr(plans).startswith(f"Plans({plans.patches} patches of 2 slides")
    assert repr(run).startswith(f"Run('{run.run_id}', {run.written} patches of 2 slides, out=")
    assert "1 slide failed" in repr(qb.Plans(list(plans), [qb.Failure("1", "a", "b")]))
    assert repr(plans[0]).startswith(f"Plan({len(plans[0])} patches, 1 label, ")
    assert repr(Estimate(1, 2.0, 3)) == "Estimate(bytes=1, seconds=2.0, sample=3)"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_results_can_be_pickled_and_compared(results, kind):
    for value in results:
        if type(value) is kind:
            other = pickle.loads(pickle.dumps(value))
            assert other == value
            assert other is not value
            assert repr(other) == repr(value)
            assert value != object()


HASHED = (
    qb.Plan, qb.Plans, qb.Run, qb.Settings, qb.SlideTask, qb.SlideResult, qb.Failure, qb.Option,
    qb.Selection, qb.ExportConfig, qb.RunOptions, qb.Slide, qb.RunStatus, qb.WriteBack,
    qb.Inspection,
)  # fmt: skip


@pytest.mark.parametrize("kind", HASHED, ids=lambda kind: kind.__name__)
def test_equal_results_have_one_hash(results, kind):
    found = [value for value in results if type(value) is kind]
    assert found
    for value in found:
        assert hash(pickle.loads(pickle.dumps(value))) == hash(value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_results_do_not_change(results, kind):
    for value in results:
        if type(value) is kind and is_dataclass(value):
            with pytest.raises(AttributeError):
                setattr(value, fields(value)[0].name, None)


def test_plans_of_the_same_slide_are_equal(project, plans):
    slide = project.slides[0]
    one, other = (qb.plan(slide, CONFIG) for _ in range(2))
    assert one == other == plans[0]
    assert len({one, other}) == 1
    assert one != qb.plan(slide, CONFIG.replace(size=99))
    assert one != plans[1]
    assert qb.plan(project, CONFIG) == plans
    assert hash(qb.plan(project, CONFIG)) == hash(plans)
    assert qb.plan(project.slides[:1], CONFIG) != plans
    pickled = pickle.loads(pickle.dumps(plans))
    assert [len(each) for each in pickled] == [len(each) for each in plans]
    assert pickled[0].table == plans[0].table


def test_a_run_is_equal_to_itself_read_again(run):
    again = qb.Run.load(run.out)
    assert again == run
    assert hash(again) == hash(run)
    assert again != replace(run, record={**run.record, "run_id": "another"})


def test_a_slide_task_can_be_carried_as_json(results):
    (task,) = [value for value in results if type(value) is qb.SlideTask]
    assert qb.SlideTask.from_json(task.as_json()) == task


# --- notebooks -----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, and fails where they are not nested."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text = set(), [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("kind", ["project", "plan", "plans", "failed", "run"])
def test_html_is_valid_and_escapes_names(project, plans, run, kind):
    failure = qb.Failure("1", NASTY, NASTY)
    value = {
        "project": project, "plan": plans[0], "plans": plans, "run": run,
        "failed": qb.Plans(list(plans), [failure]),
    }[kind]  # fmt: skip
    text = value._repr_html_()
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.tags <= {"p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "img"}
    assert '<b>&"x"' in page.text  # as text, not as tags
    if kind != "project":
        assert str(len(plans[0]) if kind == "plan" else plans.patches) in page.text


def test_html_of_very_many_slides_is_short(project):
    many = replace(project, slides=project.slides * 500)
    assert len(many._repr_html_()) < 30_000
    assert "and 980 more" in many._repr_html_()


def test_html_of_a_plan_shows_a_picture(plans):
    assert '<img alt="preview" src="data:image/png;base64,' in plans[0]._repr_html_()


def test_paths_of_the_run_are_those_that_were_asked_for(run):
    assert isinstance(run.out, Path)
    assert (run.out / "run.json").is_file()
