"""The web page in a real browser: token, lists, a job with its report and patches, keyboard."""

import json
import time

import pytest

from qupath_bridge.service.opened import open_service
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.browser import Browser, Page
from tests.support.page_checks import check_contrast, check_names
from tests.support.service import ended, serving, working

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chromium")]

TOKEN = "a-long-random-token"
NAME = "<img src=x onerror=alert(1)>.tiff"
"""What a slide may be called."""


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Roots ``out`` and ``study``: three slides with two labels, and one whose file is gone."""
    folder = tmp_path_factory.mktemp("page")
    study = folder / "study"
    study.mkdir()
    images = []
    for n in range(4):
        slide = write_slide(study / f"{n}.tiff", marker_image(128, 96 + n), mpp=0.5, tile=16)
        regions = [
            Region("Tumor", "POLYGON ((0 0, 96 0, 96 96, 0 96, 0 0))"),
            Region("Stroma", "POLYGON ((96 0, 128 0, 128 96, 96 96, 96 0))"),
        ]
        images.append(Image(slide, regions, name=NAME if n == 1 else f"S{n}"))
    build_project(study / "project", images)
    (study / "3.tiff").unlink()
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return ServiceSettings(
        database=f"sqlite:///{(folder / 'service.sqlite').as_posix()}",
        sources=[str(folder / "study")],
        outputs=[str(folder / "out")],
        token=TOKEN,
        requests_per_minute=6000,
    )


@pytest.fixture(scope="module")
def service(settings):
    with open_service(settings, migrates=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def submit(folder, service):
    """Ask for a job with an output of this name."""

    def submit(name, service=service):
        source = str(folder / "study" / "project" / "project.qpproj")
        return service.jobs.submit([source], str(folder / "out" / name), {"size": 32})

    return submit


@pytest.fixture(scope="module")
def job(service, submit):
    """A job that is complete, with a slide that failed."""
    job = submit("study-7")
    with working(service):
        assert ended(service, job).slides == {"done": 3, "failed": 1}
    return job


@pytest.fixture(scope="module")
def address(service):
    with serving(service) as url:
        yield url


@pytest.fixture
def page(browser, address, job):
    """The page, with the token given."""
    page = Page(browser, address)
    wait(page, "!document.getElementById('login').hidden")
    assert page.run("document.activeElement.id") == "token"
    page.type(TOKEN)
    page.press("Enter")
    wait(page, "document.getElementById('title') && !document.getElementById('leave').hidden")
    page.browser.events.clear()
    yield page
    page.run("sessionStorage.clear()")
    assert page.problems == []
    assert page.requests == []


def wait(page, condition, seconds=120):
    """Wait until something is true in the page."""
    deadline = time.monotonic() + seconds
    while not page.run(f"!!({condition})"):
        assert time.monotonic() < deadline, (condition, page.run("document.body.innerText"))
        time.sleep(0.05)


def press(page, selector, key="Enter"):
    """Press a key on an element when it is there, as a person does."""
    wait(page, f"document.querySelector({json.dumps(selector)})?.disabled !== true")
    # The page may be drawn anew just then, and another element get the focus.
    focus = "e => { e?.focus(); return e && document.activeElement === e; }"
    wait(page, f"({focus})(document.querySelector({json.dumps(selector)}))")
    page.press(key)


def open_job(page, job):
    press(page, f"#job-{job}")
    wait(page, "document.querySelector('#slides-title + .filters + div table')")


def texts(page, selector):
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)")


def test_the_page_shows_a_job_and_its_failures(page, job):
    wait(page, "document.querySelector('tbody')")
    cells = f"[...document.getElementById('job-{job}').closest('tr').cells].map(c => c.textContent)"
    *row, age = page.run(cells)
    assert row == ["study-7", "complete", "4 of 4", "36", "1"]
    assert age == "just now" or age.endswith(" ago")
    open_job(page, job)
    assert page.run("document.activeElement.id") == "title"
    assert page.run("document.title") == "study-7 · qupath-bridge"
    assert texts(page, "tbody th")[1].startswith(NAME)
    (failures,) = texts(page, "section.banner")
    assert "3.tiff was not found" in failures
    assert "Next step: " in failures
    facts = texts(page, ".facts")[0]
    assert "Tumor 27" in facts
    assert "project.qpproj" in facts
    assert page.run("document.images.length") == 24
    assert page.run("document.getElementById('cancel').disabled") is True
    assert page.run("document.getElementById('retry').disabled") is False


def test_patches_by_label_and_slide_with_their_pictures(page, job):
    open_job(page, job)
    loaded = "[...document.images].every(i => i.complete && i.naturalWidth === 32)"
    wait(page, f"document.images.length === 24 && {loaded}")
    press(page, "#patches-next")
    wait(page, f"document.images.length === 12 && {loaded}")
    assert page.run("document.getElementById('patches-next').disabled") is True
    page.run("document.getElementById('label').focus()")
    page.type("Stroma")
    page.press("Enter")
    wait(page, f"document.images.length === 9 && {loaded}")
    assert set(texts(page, ".patches b")) == {"Stroma"}
    press(page, "tbody tr:nth-child(2) button")
    wait(page, f"document.images.length === 3 && {loaded}")
    assert page.run("document.activeElement.id") == "patches-title"


def test_states_refresh_by_themselves_and_the_buttons_work(page, service, submit):
    job = submit("next")
    wait(page, f"document.getElementById('job-{job}')")
    press(page, f"#job-{job}")
    press(page, "#cancel")
    assert page.run("document.getElementById('ask').open") is True
    page.press("Enter")  # "No" has the focus
    assert service.jobs.get(job).state == "queued"
    press(page, "#cancel")
    press(page, "#yes")
    wait(page, "document.querySelector('h1 .badge').innerText === 'cancelled'")
    assert page.run("document.getElementById('said').innerText") == "The job is cancelled."
    wait(page, "!document.getElementById('ask').open")
    press(page, "#retry")
    # A worker that is stopping the job just then would refuse it for a moment.
    wait(page, "document.querySelector('h1 .badge').innerText === 'queued'")
    with working(service):
        wait(page, "document.querySelector('h1 .badge').innerText === 'complete'")
    wait(page, "document.images.length === 24")


def test_the_report_is_made_and_shown_without_rights(page, job, folder):
    open_job(page, job)
    press(page, "#report")
    wait(page, "document.querySelector('iframe')")
    assert (folder / "out" / "study-7" / "report.html").is_file()
    inner = "document.querySelector('iframe')"
    assert page.run(f"{inner}.sandbox.value") == "allow-scripts"
    assert page.run(f"{inner}.contentDocument") is None  # of another origin
    with page.inner():
        wait(page, "document.readyState === 'complete' && document.querySelector('#filters')")
        # Its script ran, and its style counts.
        assert page.run("document.querySelector('#filters').hidden") is False
        assert page.run("getComputedStyle(document.querySelector('.numbers')).display") == "flex"
        wait(page, "[...document.images].every(i => i.complete && i.naturalWidth)")
        assert page.run("document.querySelectorAll('a[href^=\"./\"]').length") == 0
        stolen = "(() => { try { return sessionStorage.length } catch (e) { return e.name } })()"
        assert page.run(stolen) == "SecurityError"
        assert page.run("fetch('/jobs').then(() => 'read', () => 'refused')") == "refused"
    page.browser.events.clear()  # it asked for a report that was not there, and was refused


def test_a_wrong_token_is_forgotten(browser, address):
    page = Page(browser, address)
    wait(page, "!document.getElementById('login').hidden")
    page.type("wrong")
    page.press("Enter")
    wait(page, "!document.getElementById('problem').hidden")
    assert texts(page, "#problem") == ["The service does not know this token."]
    assert page.run("sessionStorage.length") == 0
    assert page.run("document.getElementById('main').children.length") == 0


def test_without_a_token_nothing_is_asked(browser, settings, submit):
    with open_service(settings.replace(token=None)) as service, serving(service) as url:
        job = submit("open", service)
        page = Page(browser, url)
        wait(page, f"document.getElementById('job-{job}')")
        assert page.run("document.getElementById('login').hidden") is True
        press(page, f"#job-{job}")
        wait(page, "document.getElementById('cancel')")
        press(page, "#cancel")
        press(page, "#yes")  # a request with an origin, which is our own
        wait(page, "document.querySelector('h1 .badge').innerText === 'cancelled'")


def test_a_service_that_is_away_is_said_and_comes_back(browser, service, job):
    with serving(service) as url:
        page = Page(browser, url)
        wait(page, "!document.getElementById('login').hidden")
        page.type(TOKEN)
        page.press("Enter")
        wait(page, f"document.getElementById('job-{job}')")
    wait(page, "!document.getElementById('problem').hidden")
    assert texts(page, "#problem")[0].startswith("The service does not answer.")
    assert page.run(f"!!document.getElementById('job-{job}')")  # what is known stays
    page.run("sessionStorage.clear()")


def test_everything_that_is_used_has_a_name(page, job):
    open_job(page, job)
    wait(page, "document.images.length === 24")
    used = {"button", "combobox", "searchbox", "link", "image", "table", "progressbar"}
    check_names(page, used)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_have_contrast(browser, address, dark):
    pairs = [(name, f"{name}-paper") for name in ("good", "warn", "bad")]
    pairs += [("ink", "bad-paper"), ("ink", "warn-paper"), ("paper", "accent")]
    pairs += [("quiet", "bad-paper")]
    check_contrast(Page(browser, address, dark=dark), pairs, dark=dark)


def test_a_phone_needs_no_scrolling_to_the_side(page, job):
    page.size(360, 740)
    assert page.run("document.documentElement.scrollWidth") <= 360
    open_job(page, job)
    wait(page, "document.images.length === 24")
    assert page.run("document.documentElement.scrollWidth") <= 360
    table = next(
        node
        for node in page.browser.call("Accessibility.getFullAXTree")["nodes"]
        if node.get("role", {}).get("value") == "table"
    )
    assert table["name"]["value"] == "Slides by their ids"
