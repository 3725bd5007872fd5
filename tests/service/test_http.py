"""The API: what is asked for, what is refused, and what it describes."""

import io
import re
from importlib.resources import files as files_of

import httpx
import pytest
from PIL import Image

import qupath_bridge as qb
from qupath_bridge.errors import UsageError
from qupath_bridge.service.client import Client, ServiceError
from qupath_bridge.service.http.guards import check_open_address
from qupath_bridge.service.opened import open_service
from qupath_bridge.testing.projects import Image as ProjectImage
from qupath_bridge.testing.projects import Region, build_project
from qupath_bridge.testing.services.server import free_port
from tests.support.service import ended, serving, working

TOKEN = "a-long-random-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def settings(settings):
    return settings.replace(token=TOKEN, page_size=10)


@pytest.fixture
def http(service):
    with serving(service) as url, httpx.Client(base_url=url, headers=HEADERS, timeout=60) as client:
        yield client


@pytest.fixture
def request_of(project, tmp_path):
    return {
        "sources": [str(project)],
        "output": str(tmp_path / "out" / "job"),
        "configuration": {"size": 32},
    }


@pytest.fixture
def done(service, http, request_of):
    """A job that is complete."""
    job = http.post("/jobs", json=request_of).json()
    with working(service):
        ended(service, job["job_id"])
    return job["job_id"]


def test_a_job_from_the_request_to_its_patches(http, done, tmp_path):
    job = http.get(f"/jobs/{done}").json()
    assert (job["state"], job["slides"], job["written"]) == ("complete", {"done": 3}, 36)
    assert (job["labels"], job["failures"], job["error"]) == ({"Tumor": 36}, [], None)
    assert [each["job_id"] for each in http.get("/jobs").json()["jobs"]] == [done]
    assert http.get("/jobs", params={"state": "failed"}).json() == {"jobs": [], "next": None}
    slides = http.get(f"/jobs/{done}/slides").json()["slides"]
    assert [(each["slide_name"], each["state"]) for each in slides] == [
        ("0.tiff", "done"),
        ("1.tiff", "done"),
        ("2.tiff", "done"),
    ]
    assert all(each["seconds"] > 0 and each["written"] == 12 for each in slides)
    table = qb.Run.load(tmp_path / "out" / "job").table().to_pylist()
    found, after, pages = [], 0, 0
    while after is not None:
        page = http.get(f"/jobs/{done}/patches", params={"after": after}).json()
        found += page["patches"]
        after, pages = page["next"], pages + 1
    assert pages == 4  # of ten each
    assert {each["tile_uuid"] for each in found} == {row["tile_uuid"] for row in table}
    assert len(found) == 36


def test_a_page_has_100_entries_or_what_limit_says(settings, project, tmp_path):
    with open_service(settings.replace(page_size=110), migrates=True) as service:
        for number in range(115):
            service.jobs.submit([str(project)], str(tmp_path / "out" / str(number)), {})
        with serving(service) as url, httpx.Client(base_url=url, headers=HEADERS) as client:
            for query, number in (({}, 100), ({"limit": 3}, 3), ({"limit": 10_000}, 110)):
                page = client.get("/jobs", params=query).json()
                assert len(page["jobs"]) == number
                assert page["next"] == page["jobs"][-1]["job_id"]
        with serving(service) as url, Client(url, token=TOKEN) as client:
            assert len(list(client.jobs())) == 115


def test_patches_by_label_and_slide(http, done):
    def count(**query):
        return len(http.get(f"/jobs/{done}/patches", params=query).json()["patches"])

    assert count(label="Stroma") == 0
    assert count(label="Tumor", limit=7) == 7
    slide = http.get(f"/jobs/{done}/slides").json()["slides"][1]["slide_id"]
    patches = http.get(f"/jobs/{done}/patches", params={"slide": slide}).json()["patches"]
    assert {patch["slide_id"] for patch in patches} == {slide}


def test_patches_with_several_labels_are_found_by_each(service, http, request_of, tmp_path):
    halves = [
        Region("Stroma", "POLYGON ((0 0, 48 0, 48 96, 0 96, 0 0))"),
        Region("Tumor", "POLYGON ((48 0, 128 0, 128 96, 48 96, 48 0))"),
    ]
    project = build_project(
        tmp_path / "study" / "both", [ProjectImage(tmp_path / "study" / "0.tiff", halves)]
    )
    request = {**request_of, "sources": [str(project)]}
    request["configuration"] = {**request["configuration"], "rule": "any"}
    job = http.post("/jobs", json=request).json()["job_id"]
    with working(service):
        ended(service, job)
    found = {
        label: http.get(f"/jobs/{job}/patches", params={"label": label}).json()["patches"]
        for label in ("Stroma", "Tumor", "Fat")
    }
    assert {label: len(patches) for label, patches in found.items()} == {
        "Stroma": 6, "Tumor": 9, "Fat": 0,
    }  # fmt: skip
    assert [each["labels"] for each in found["Tumor"]].count(["Stroma", "Tumor"]) == 3


def test_a_patch_with_origin_and_picture(http, done, tmp_path):
    patch = http.get(f"/jobs/{done}/patches").json()["patches"][0]
    origin = http.get(f"/patches/{patch['tile_uuid']}").json()
    assert origin["patch"] == patch
    assert origin["project"].endswith("project.qpproj")
    assert origin["slide_file"].endswith("0.tiff")
    picture = http.get(origin["image"])
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"
    file = tmp_path / "out" / "job" / patch["path"]
    assert picture.content == file.read_bytes()
    assert Image.open(io.BytesIO(picture.content)).size == (32, 32)
    file.write_bytes(b"something else")
    assert http.get(origin["image"]).status_code == 410
    assert http.get("/patches/nobody").status_code == 404


def check_again(answer):
    """The answer says when it is worth asking again; return what else it says."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    return answer.json()


def test_a_picture_on_a_disk_that_may_come_back(http, done, tmp_path):
    patch = http.get(f"/jobs/{done}/patches").json()["patches"][0]
    file = tmp_path / "out" / "job" / patch["path"]
    file.unlink()
    file.mkdir()  # the error of the system that needs no broken disk
    said = check_again(http.get(f"/patches/{patch['tile_uuid']}/image"))
    assert str(file) in said["error"] and "fix permissions" in said["hint"]
    file.rmdir()
    assert http.get(f"/patches/{patch['tile_uuid']}/image").status_code == 410


def test_the_numbers_while_the_broker_is_away(settings, caplog):
    broker = f"amqp://bridge:very-secret@127.0.0.1:{free_port()}/bridge"
    with (
        open_service(settings.replace(queue="celery", broker=broker), migrates=True) as service,
        serving(service) as url,
    ):
        said = check_again(httpx.get(f"{url}/metrics", headers=HEADERS))
    assert said == {
        "error": "The broker of the queue is away.",
        "hint": "Ask again in a moment; the log of the service says why.",
    }
    assert "The broker cannot be reached: " in caplog.text


def test_a_database_that_fails(http, service, caplog):
    """The log alone says what it says, and what to do."""
    with service.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO others")
    assert check_again(http.get("/jobs")) == {
        "error": "The database is away, has no time, or fails.",
        "hint": "Ask again in a moment; the log of the service says why.",
    }
    assert "no such table: jobs. Run `qupath-bridge service migrate`." in caplog.text


def test_the_same_key_is_one_job(http, request_of):
    first = http.post("/jobs", json={**request_of, "key": "mine"})
    again = http.post("/jobs", json={**request_of, "key": "mine"})
    assert first.json()["job_id"] == again.json()["job_id"]
    other = http.post("/jobs", json={**request_of, "configuration": {}, "key": "mine"})
    assert other.status_code == 409
    assert "mine" in other.json()["error"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"configuration": {"siez": 32}}, "did you mean size"),
        ({"configuration": {"size": 0, "rule": "most"}}, "rule"),
        ({"configuration": {"pseudonymise": "/tmp/key"}}, "pseudonymise"),
        ({"configuration": {"break_lock": True}}, "break_lock"),
        ({"configuration": {"metadata": "/etc/passwd"}}, "No source"),
        ({"configuration": {"coords": "/etc/passwd"}}, "No source"),
        ({"configuration": {"tissue": "mask:/etc"}}, "No source"),
        ({"configuration": {"search": ["/etc"]}}, "No source"),
        ({"sources": ["/etc"]}, "No source"),
        ({"sources": ["http://127.0.0.1:1/project.qpproj"]}, "No source"),
        ({"sources": ["relative.qpproj"]}, "No source"),
        ({"sources": []}, "sources"),
        ({"output": "/etc/run"}, "No output"),
        ({"output": "memory://run"}, "No output"),
        ({"output": "relative"}, "No output"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_is_refused_says_why(http, request_of, changes, text):
    answer = http.post("/jobs", json={**request_of, **changes})
    assert answer.status_code == 422
    assert text in answer.json()["error"]
    assert http.get("/jobs").json()["jobs"] == []


def test_links_lead_nowhere(http, request_of, tmp_path):
    (tmp_path / "study" / "link").symlink_to(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    source = str(tmp_path / "study" / "link" / "secret")
    for changes in (
        {"sources": [source]},
        {"sources": [str(tmp_path / "study" / ".." / "secret")]},
        {"output": str(tmp_path / "out" / "link" / "run")},
        {"output": str(tmp_path / "out" / ".." / "run")},
        {"output": str(tmp_path / "out")},
    ):
        assert http.post("/jobs", json={**request_of, **changes}).status_code == 422


def test_states_that_do_not_allow_it(http, done):
    assert http.post(f"/jobs/{done}/cancel").status_code == 409
    assert http.post(f"/jobs/{done}/retry").status_code == 409
    assert http.post("/jobs/nobody/cancel").status_code == 404
    assert http.get("/jobs/nobody").status_code == 404
    assert http.get("/jobs/nobody/slides").status_code == 404
    assert http.get("/jobs/nobody/patches").status_code == 404


def test_nobody_comes_in_without_the_token(service):
    wrong = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"})
    with serving(service) as url:
        for headers in wrong:
            for path in ("/jobs", "/metrics", "/patches/x"):
                answer = httpx.get(url + path, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert httpx.get(f"{url}/health").json()["status"] == "ok"


def test_without_a_token_web_pages_stay_out(settings):
    """A page in the browser of this machine could ask, too."""
    with (
        open_service(settings.replace(token=None), migrates=True) as service,
        serving(service) as url,
        httpx.Client(base_url=url) as client,
    ):
        assert client.get("/jobs").status_code == 200
        page = {"Origin": "http://example.org"}
        assert client.post("/jobs/x/cancel", headers=page).status_code == 403
        assert client.get("/jobs", headers={"Host": "example.org"}).status_code == 403
        both = {"Host": "example.org", "Origin": "http://example.org"}
        assert client.post("/jobs/x/cancel", headers=both).status_code == 403
        neighbour = {"Origin": "http://127.0.0.1:1"}
        assert client.post("/jobs/x/cancel", headers=neighbour).status_code == 403
        assert client.get("/jobs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        # The page of the service itself may.
        own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/jobs/x/cancel", headers=own).status_code == 404


def test_the_page_needs_no_token_and_loads_nothing_from_elsewhere(service):
    with serving(service) as url:
        page = httpx.get(url)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        files = re.findall(r'(?:href|src)="(?!#|data:)([^"]+)"', page.text)
        assert sorted(files) == ["page/main.js", "page/style.css"]
        for name in ("page/main.js", "page/style.css", "page/client.js"):
            answer = httpx.get(f"{url}/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-security-policy"].startswith("default-src 'none';")
        for name in ("page/nothing.js", "page/..%2Fapp.py", "page/"):
            assert httpx.get(f"{url}/{name}").status_code == 404
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
    code = " ".join(
        each.read_text("utf-8")
        for each in (files_of("qupath_bridge.service.http") / "page").iterdir()
    )
    assert not re.search(r"https?://|innerHTML|\bon\w+=|style=", code)


def test_the_report_of_a_job(http, service, done, request_of, tmp_path):
    before = http.get(f"/jobs/{done}/report")
    assert (before.status_code, before.json()["hint"]) == (404, "POST makes it.")
    assert http.post(f"/jobs/{done}/report").status_code == 204
    page = http.get(f"/jobs/{done}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].endswith("; sandbox")
    file = tmp_path / "out" / "job" / "report.html"
    assert page.content == file.read_bytes()
    # The page shows only what its policy knows: not a report of another version.
    file.write_bytes(page.content.replace(b"sha256-", b"sha256-x"))
    assert http.get(f"/jobs/{done}/report").status_code == 404
    waiting = http.post("/jobs", json={**request_of, "output": str(tmp_path / "out" / "b")}).json()
    early = http.post(f"/jobs/{waiting['job_id']}/report")
    assert (early.status_code, early.json()["hint"]) == (409, "Ask again then.")
    assert http.post("/jobs/nobody/report").status_code == 404


def test_only_this_machine_comes_in_without_a_token(settings):
    check_open_address(settings.replace(host="0.0.0.0"))
    check_open_address(settings.replace(token=None))
    with pytest.raises(UsageError, match="Without a token"):
        check_open_address(settings.replace(token=None, host="0.0.0.0"))


def test_too_many_and_too_large_requests(settings):
    limits = settings.replace(requests_per_minute=5, max_body_bytes=2048)
    with open_service(limits, migrates=True) as service:
        with serving(service) as url, httpx.Client(base_url=url, headers=HEADERS) as client:
            large = client.post("/jobs", content=b"x" * 3000)
            assert large.status_code == 413
            chunks = (b"x" * 1000 for _ in range(3))  # of an unknown length
            assert client.post("/jobs", content=chunks).status_code in (400, 413)
            answers = [client.get("/jobs") for _ in range(5)]
        assert [each.status_code for each in answers[:3]] == [200, 200, 200]
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_metrics_count_what_is_there(http, done):
    http.get(f"/jobs/{done}")
    text = http.get("/metrics").text
    for line in (
        'qupath_bridge_jobs{state="complete"} 1.0',
        'qupath_bridge_slides{state="done"} 3.0',
        "qupath_bridge_patches 36.0",
        "qupath_bridge_queue_waiting 0.0",
        'path="/jobs/{job_id}",status="200"',
    ):
        assert line in text
    assert done not in text


def test_the_description_has_examples_and_loads_nothing(http):
    description = http.get("/openapi.json").json()
    paths = set(description["paths"])
    assert paths >= {"/jobs", "/jobs/{job_id}/patches", "/patches/{tile_uuid}", "/metrics"}
    schemas = description["components"]["schemas"]
    for name in ("NewJob", "Job", "Slide", "Patch"):
        (example,) = schemas[name]["examples"]
        missing = set(schemas[name]["properties"]) - set(example)
        assert missing <= {"error", "hint", "run_digest"}  # null where all is well
        assert set(example) <= set(schemas[name]["properties"])
    assert http.get("/docs").status_code == 404


def test_the_client_asks_for_all_of_it(service, request_of, project):
    with serving(service) as url, Client(url, token=TOKEN) as client:
        job = client.submit([project], request_of["output"], {"size": 32}, key="mine")
        assert client.submit([project], request_of["output"], {"size": 32}, key="mine") == job
        seen = []
        with working(service):
            state = client.wait(job["job_id"], interval=0.1, on_change=seen.append)
        assert state["state"] == "complete"
        assert seen[-1] == state
        assert [each["job_id"] for each in client.jobs()] == [job["job_id"]]
        assert len(list(client.slides(job["job_id"]))) == 3
        patches = list(client.patches(job["job_id"], label="Tumor"))
        assert len(patches) == 36  # over several pages
        assert client.patch(patches[0]["tile_uuid"])["patch"] == patches[0]
        assert client.image(patches[0]["tile_uuid"]).startswith(b"\x89PNG")
        with pytest.raises(ServiceError, match="complete, and cannot") as caught:
            client.cancel(job["job_id"])
        assert caught.value.status == 409
        with pytest.raises(ServiceError, match="nobody"):
            client.job("nobody")


def test_a_client_says_when_no_service_answers(monkeypatch):
    monkeypatch.setattr("qupath_bridge.service.client.PAUSE", 0.001)
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceError) as error:
        client.job("1")
    assert error.value.message.startswith("No service answers at http://127.0.0.1:9: ")
    assert "service run" in error.value.hint
