"""The report of 50 slides in a real browser: filters, layers, keyboard, colours, size.

A system Chromium is needed. Nothing is loaded but the page's own file.
"""

import json
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.reporting.pictures import MAX_BYTES
from qupath_bridge.testing.projects import Image, Region, build_project
from tests.support.browser import Browser, Page
from tests.support.page_checks import check_contrast, check_names

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chromium")]

SLIDES = 50


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(browser, tmp_path_factory, two_slides, draw):
    """The report of 50 slides; number 7 has a class that the others lack, number 9 fails."""
    folder = tmp_path_factory.mktemp("cohort")
    images = []
    for number in range(1, SLIDES + 1):
        (image,) = draw.images(two_slides[number % 2 :][:1], (number % 5,))
        regions = list(image.regions)
        if number == 7:
            regions.append(Region("Rare", "POLYGON ((20 300, 200 300, 200 480, 20 480, 20 300))"))
        slide = folder / "not there.tiff" if number == 9 else image.slide
        images.append(
            Image(
                slide, regions, f"Biopsy {number:02}", (700, 500), metadata={"site": f"S{number}"}
            )
        )
    project = build_project(folder / "study", images)
    config = qb.ExportConfig(size=50, min_share=0.4, format="jpeg")
    run = qb.export(project, folder / "out", config, provenance=False)
    assert len(run.failures) == 1
    return qb.report(run)


@pytest.fixture
def page(browser, report):
    """The page, opened anew; at its end nothing went wrong, and nothing was asked for."""
    page = Page(browser, report)
    yield page
    assert page.problems == []
    assert page.requests == []


def shown(page):
    """Return the numbers of the slides that are shown."""
    ids = page.run("[...document.querySelectorAll('.slide:not([hidden])')].map((e) => e.id)")
    return [int(name.removeprefix("slide-")) for name in ids]


def focus(page, selector):
    page.run(f"document.querySelector({json.dumps(selector)}).focus()")


def choose(page, name, text):
    """Choose an option of a filter, as a person does with the keyboard."""
    focus(page, f"#filter-{name}")
    if text == "all":
        page.press("Home")
    else:
        page.type(text[:3])
    chosen = f"document.getElementById('filter-{name}').selectedOptions[0].textContent"
    assert page.run(chosen) == text


def test_a_report_of_50_slides_is_small_enough(report):
    assert 1_000_000 < Path(report).stat().st_size <= MAX_BYTES


def test_every_slide_can_be_found(page):
    assert shown(page) == list(range(1, SLIDES + 1))
    assert page.run("document.querySelectorAll('table.slides tbody tr').length") == SLIDES
    # Every picture that is in the page can be decoded.
    broken = """Promise.all([...document.images].map((image) =>
        image.decode().then(() => 0, () => 1)
    )).then((found) => found.reduce((a, b) => a + b, 0))"""
    assert page.run("document.images.length") > 1000
    assert page.run(broken) == 0


def test_search_narrows_slides_and_table(page):
    focus(page, "#filter-text")
    page.type("S1")  # the site of slides 1 and 10 to 19, whatever the letters are
    assert shown(page) == [1, *range(10, 20)]
    assert page.run("document.getElementById('filter-count').value") == "11 of 50 slides"
    rows = page.run("document.querySelectorAll('table.slides tbody tr:not([hidden])').length")
    assert rows == len(shown(page))
    page.type(" biopsy-17")  # all words have to be there
    assert shown(page) == [17]
    page.type("x")
    assert shown(page) == []
    assert page.run("document.getElementById('nothing').hidden") is False
    focus(page, "#filter-reset")
    page.press("Enter")
    page.run("new Promise((done) => setTimeout(done, 50))")
    assert len(shown(page)) == SLIDES


def test_filters_of_slide_label_and_reason(page):
    choose(page, "label", "Rare")
    assert shown(page) == [7]
    page.run("document.getElementById('slide-7').open = true")
    heads = """[...document.querySelectorAll('#slide-7 .sheet:not([hidden]) h5 bdi')]
        .map((e) => e.textContent)"""
    assert page.run(heads) == ["Rare"]
    assert page.run("document.querySelectorAll('#slide-7 h4:not([hidden])').length") == 1
    choose(page, "label", "all")
    choose(page, "reason", "excluded")
    assert set(shown(page)) == set(range(1, SLIDES + 1)) - {9}
    assert page.run(heads) == ["excluded"]
    choose(page, "reason", "all")
    focus(page, "#filter-slide")
    page.type("Biopsy 12")
    assert shown(page) == [12]
    assert page.run("document.getElementById('slide-12').open") is True


def test_a_failed_slide_says_why(page):
    page.run("document.querySelector('.banner a').click()")
    page.run("new Promise((done) => setTimeout(done, 50))")
    assert page.run("document.getElementById('slide-9').open") is True
    assert "not there.tiff was not found" in page.run(
        "document.getElementById('slide-9').innerText"
    )


def test_the_keyboard_reaches_everything(page):
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.press("Enter")
    assert page.run("document.activeElement.id") == "main"
    for _ in range(200):
        page.press("Tab")
        if page.run("document.activeElement.id") == "close-all":
            break
    page.press("Tab")
    first = "document.activeElement.closest('.slide').id"
    assert page.run(f"document.activeElement.tagName + ' ' + {first}") == "SUMMARY slide-1"
    page.press("Enter")
    assert page.run("document.getElementById('slide-1').open") is True
    page.press("Tab")
    box = "document.activeElement"
    assert page.run(f"{box}.type") == "checkbox"
    layer = f"document.querySelector(`#slide-1 img[data-layer='${{{box}.dataset.layer}}']`)"
    assert page.run(f"{layer}.hidden") is False
    page.press(" ")
    assert page.run(f"{layer}.hidden") is True
    outline = page.run(f"getComputedStyle({box}).outlineStyle")
    assert outline == "solid"  # one sees where one is


def test_layers_are_switched_one_by_one_and_together(page):
    page.run("document.getElementById('slide-2').open = true")
    hidden = "[...document.querySelectorAll('#slide-2 .layer')].map((e) => e.hidden)"
    start = page.run(hidden)
    boxes = page.run("[...document.querySelectorAll('#slide-2 input')].map((e) => !e.checked)")
    assert start == boxes
    assert True in start
    assert False in start
    for kind in ("none", "all"):
        page.run(f"document.querySelector('#slide-2 [data-layers={kind}]').click()")
        assert set(page.run(hidden)) == {kind == "none"}
    number = len(start)
    page.run(f"document.querySelector('#slide-2 input[data-layer=\"{number}\"]').click()")
    assert page.run(hidden) == [*[False] * (number - 1), True]
    page.run("document.querySelector('#slide-2 [data-enlarge]').click()")
    pressed = "document.querySelector('#slide-2 [data-enlarge]').getAttribute('aria-pressed')"
    assert page.run(pressed) == "true"


def test_layers_cover_the_picture(page):
    """Also where it is shown smaller or larger than it is."""
    page.run("document.getElementById('slide-1').open = true")
    for width in (400, 1280):
        page.size(width, 900)
        boxes = page.run(
            """[...document.querySelectorAll('#slide-1 .stack > *')].filter((e) => !e.hidden)
            .map((e) => e.getBoundingClientRect()).map((b) => [b.x, b.y, b.width, b.height])"""
        )
        assert len(boxes) > 3
        assert all(box == pytest.approx(boxes[0], abs=1) for box in boxes)


def test_the_scale_bar_is_as_long_as_it_says(page):
    """Slides are 700 px of 0.5 µm wide, and the bar is 50 µm long."""
    page.run("document.getElementById('slide-1').open = true")
    width = "document.querySelector('#slide-1 %s').getBoundingClientRect().width"
    for step in ("", "document.querySelector('#slide-1 [data-enlarge]').click()"):
        page.run(step or "0")
        bar, picture = (page.run(width % name) for name in (".scale svg", ".base"))
        assert bar / picture == pytest.approx(50 / 350, rel=0.01)
    assert page.run("document.querySelector('#slide-1 .scale').innerText").strip() == "50 µm"


def test_a_patch_is_shown_in_its_place(page):
    page.run("document.getElementById('slide-1').open = true")
    page.run("document.querySelector('#slide-1 .patch').focus()")
    x, y, w, h = map(int, page.run("document.activeElement.dataset.box").split())
    here = "document.querySelector('#slide-1 .here rect')"
    drawn = page.run(f"['x', 'y', 'width', 'height'].map((n) => Number({here}.getAttribute(n)))")
    assert drawn == [x, y, w, h]
    assert (w, h) == (50, 50)
    page.press("Tab", shift=True)
    assert page.run(f"{here}.getAttribute('width')") == "0"


def test_everything_that_is_used_has_a_name(page):
    page.run("document.getElementById('slide-1').open = true")
    used = {"button", "checkbox", "combobox", "searchbox", "link", "image", "table", "navigation"}
    check_names(page, used)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_have_contrast(browser, report, dark):
    pairs = [("warn", "warn-paper"), ("bad", "bad-paper"), ("ink", "agree"), ("ink", "differ")]
    check_contrast(Page(browser, report, dark=dark), pairs, dark=dark)


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_a_narrow_window_needs_no_scrolling_to_the_side(page, width):
    page.size(width, 800)
    page.run("document.querySelectorAll('details').forEach((e, i) => { e.open = i < 4; })")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_print_shows_slides_and_charts_and_no_controls(page):
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelectorAll('details:not([open])').length") == 0
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('details.slide[open]').length") == 0
    page.browser.call("Emulation.setEmulatedMedia", media="print")
    visible = "(e) => getComputedStyle(e).display !== 'none'"
    assert page.run(f"[...document.querySelectorAll('.chart *')].every({visible})")
    drawn = "(e) => e.getClientRects().length > 0"
    assert not page.run(f"[...document.querySelectorAll('nav, button')].some({drawn})")
    focus(page, "#filter-text")
    page.type("rare")
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts_everything_is_there(browser, report):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page = Page(browser, report)
        assert len(shown(page)) == SLIDES
        assert page.run("document.getElementById('filters').hidden") is True
        assert page.run("document.getElementById('open-all').closest('.buttons').hidden") is True
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_names_from_files_run_nothing(browser, two_slides, tmp_path):
    name = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e"
    image = Image(
        two_slides[0], [(name, "POLYGON ((0 0, 300 0, 300 500, 0 500, 0 0))")], name=name,
        metadata={name: f"'\"{name}"},
    )  # fmt: skip
    project = build_project(tmp_path / "p", [image])
    run = qb.export(project, tmp_path / "out", qb.ExportConfig(size=100), provenance=False)
    page = Page(browser, qb.report(run))
    assert page.run("document.scripts.length") == 1
    assert page.run("document.querySelector('#slide-1 h3').textContent").startswith("<script>")
    # Even where something got in, the page's policy would not let it run.
    page.run(
        """const code = document.createElement("script");
        code.textContent = "document.title = 'changed'";
        document.body.append(code)"""
    )
    assert page.run("document.title") != "changed"
    assert page.requests == []


def test_the_policy_lets_nothing_be_loaded(browser, report):
    page = Page(browser, report)
    asked = page.run(
        """Promise.allSettled([fetch("http://127.0.0.1:9/"), new Promise((done, fail) => {
            const image = new Image();
            image.onload = done;
            image.onerror = fail;
            image.src = "run.json";
        })]).then((found) => found.map((each) => each.status))"""
    )
    assert asked == ["rejected", "rejected"]
    assert len(page.problems) >= 2  # the browser names the policy in its console
