"""Image, compose file and Kubernetes files, as far as they can be checked without an engine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qupath_bridge._version import __version__
from qupath_bridge.service.database import Database
from qupath_bridge.service.jobs import Jobs
from qupath_bridge.service.opened import Service
from qupath_bridge.service.queues import open_queue
from qupath_bridge.service.settings import ServiceSettings
from tests.support.service import serving

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES = ROOT / "deploy" / "kubernetes"
STEP = re.compile(r"^([A-Z]+) (.*)$")


def steps(stage):
    """Return the instructions of a stage of the image: pairs of a word and the rest."""
    text, found, inside = re.sub(r"\\\n", " ", DOCKERFILE), [], False
    for line in text.splitlines():
        if match := STEP.match(line.strip()):
            if match[1] == "FROM":
                inside = match[2].endswith(f" AS {stage}")
            elif inside:
                found.append(match.groups())
    assert found, stage
    return found


def environment(stage):
    (text,) = (rest for word, rest in steps(stage) if word == "ENV")
    return dict(pair.split("=", 1) for pair in shlex.split(text))


def documents():
    """Return all documents of the Kubernetes files by their file."""
    files = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    return [
        (name, each)
        for name in files["resources"]
        for each in yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8"))
    ]


def containers():
    for name, each in documents():
        if each["kind"] in {"Deployment", "Job"}:
            pod = each["spec"]["template"]["spec"]
            yield name, pod, pod["containers"][0]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package as the image installs it: built in a clean folder from what COPY brings there."""
    folder = tmp_path_factory.mktemp("image")
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for word, rest in steps("build"):
        if word != "COPY":
            continue
        *sources, target = rest.split()
        for source in sources:
            assert f"!{source}" in allowed, f"{source} is left out by .dockerignore"
            place = folder / target if target != "./" else folder / source
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, place, ignore=ignore)
            else:
                shutil.copy(ROOT / source, place)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", "wheels", "."]
    subprocess.run(words, cwd=folder, check=True)
    (made,) = (folder / "wheels").glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_image_has_the_whole_package(wheel):
    code = "import qupath_bridge as qb; print(qb.__file__, qb.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(wheel)}, cwd=wheel,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    file, version = done.stdout.split()
    assert Path(file).parent == wheel / "qupath_bridge" and version == __version__


def test_the_image_starts_and_is_healthy(wheel, tmp_path):
    """Its environment, its command and its health check, but on this machine alone."""
    port, variables = free_port(), environment("cpu")
    variables.pop("PATH")
    (check,) = (rest for word, rest in steps("cpu") if word == "HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    words = [sys.executable, *(word.replace("8350", str(port)) for word in words[1:])]
    own = {
        "PYTHONPATH": str(wheel), "QUPATH_BRIDGE_HOST": "127.0.0.1",
        "QUPATH_BRIDGE_PORT": str(port),
        "QUPATH_BRIDGE_DATABASE": f"sqlite:///{tmp_path / 'a.sqlite'}",
    }  # fmt: skip
    program = [sys.executable, "-m", "qupath_bridge", "service"]
    settings = {**os.environ, **variables, **own}
    subprocess.run([*program, "migrate"], env=settings, check=True, capture_output=True)
    with subprocess.Popen([*program, "api"], env=settings, stderr=subprocess.PIPE) as api:
        deadline = time.monotonic() + 60
        while subprocess.run(words, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline and api.poll() is None
            time.sleep(0.2)
        api.terminate()
        lines = api.stderr.read().decode().splitlines()
    assert all(json.loads(line) for line in lines)
    assert subprocess.run(words, capture_output=True, check=False).returncode  # and red without it


def free_port():
    from qupath_bridge.testing.services.server import free_port

    return free_port()


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_images_run_as_nobody_in_particular(stage):
    words = dict(steps(stage))
    assert words["USER"] == "10001:10001"
    assert json.loads(words["ENTRYPOINT"]) == ["qupath-bridge"]
    assert environment(stage) == environment("cpu")


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_another_user_may_enter_the_working_folder(stage):
    """`--user` of another number: not every system lets others into a home that `useradd` makes."""
    words = dict(steps(stage))
    assert words["WORKDIR"] == "/home/bridge" and "HOME_MODE=0755" in words["RUN"]


@pytest.mark.parametrize("stage", ["build", "build-cuda"])
def test_images_install_versions_that_are_written_down(stage):
    """Each package that the image needs has one version, and the package takes it."""
    command = dict(steps(stage))["RUN"]
    assert "--constraint deploy/constraints.txt" in command
    text = (ROOT / "deploy" / "constraints.txt").read_text(encoding="utf-8")
    pinned = {}
    for each in map(Requirement, (line for line in text.splitlines() if line[0] != "#")):
        (version,) = each.specifier
        assert version.operator == "==", each
        pinned[canonicalize_name(each.name)] = version.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.search(r"\.\[([a-z0-9,]+)\]", command)[1].split(",")
    needed = [*project["dependencies"]]
    for extra in extras:
        needed += project["optional-dependencies"][extra]
    for each in map(Requirement, needed):
        name = canonicalize_name(each.name)
        assert name in pinned and pinned[name] in each.specifier, f"{each}: {pinned.get(name)}"


@pytest.mark.parametrize("stage", ["build", "build-cuda"])
def test_images_install_extras_that_exist(stage):
    extras = re.search(r"\.\[([a-z0-9,]+)\]", dict(steps(stage))["RUN"])[1].split(",")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(extras) <= set(known["project"]["optional-dependencies"])
    assert {"service", "cloud"} <= set(extras)


def test_every_image_has_a_version():
    """What was tried is what runs a year later."""
    images = re.findall(r"^ARG [A-Z]+=(\S+)$", DOCKERFILE, re.M)
    assert len(images) == 2 and all(re.match(r"\d+\.\d+\.\d+", each) for each in images)
    for name, service in COMPOSE["services"].items():
        if service["image"] != "qupath-bridge":
            assert re.search(r":\S*\d", service["image"]), name
            assert "latest" not in service["image"]


def settings_named():
    """Yield each setting of the service that a file names."""
    yield from ((name, "Dockerfile") for stage in ("cpu", "cuda") for name in environment(stage))
    for service in COMPOSE["services"].values():
        yield from ((name, "compose.yaml") for name in service.get("environment", {}))
    for name, each in documents():
        yield from ((key, name) for key in each.get("data", {}))


def test_every_setting_is_one_of_the_service():
    named = {name for name, _ in settings_named() if name.startswith("QUPATH_BRIDGE_")}
    known = {f"QUPATH_BRIDGE_{name.upper()}" for name in ServiceSettings.model_fields}
    assert len(named) > 6 and named <= known


def test_compose_waits_for_what_each_service_needs():
    services = COMPOSE["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            if how["condition"] == "service_healthy":
                check = services[other]["healthcheck"]
                assert check["test"] and check["start_period"]  # or a slow first start fails
    assert {"database", "broker"} <= set(needed("worker"))
    # The image of PostgreSQL makes the database with a server that no other machine can ask.
    assert "--host" in services["database"]["healthcheck"]["test"]
    assert COMPOSE["services"]["api"]["ports"] == ["127.0.0.1:8350:8350"]


def test_the_home_in_compose_is_that_of_the_user():
    """Libraries for the GPU keep what they compiled there, and fail if they cannot."""
    user = dict(steps("cpu"))["USER"].split(":")
    options = "/home/bridge:uid={},gid={}".format(*user)
    for name in ("migrate", "api", "worker"):
        service = COMPOSE["services"][name]
        assert service["read_only"] and options in service["tmpfs"]


def needed(name):
    for other in COMPOSE["services"][name].get("depends_on", {}):
        yield other
        yield from needed(other)


def test_kubernetes_knows_every_field():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing")
    found = documents()
    for _, each in found:
        validate.validate(each, validate.latest_version(), strict=True)
    kinds = {each["kind"] for _, each in found}
    assert {"Deployment", "Job", "Service", "NetworkPolicy", "PodDisruptionBudget"} <= kinds
    broken = json.loads(json.dumps(found[-1][1]))
    broken["spec"]["podSelektor"] = {}
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, validate.latest_version(), strict=True)


def test_pods_may_do_nothing_but_their_work():
    seen = list(containers())
    assert [name for name, _, _ in seen] == ["migrate.yaml", "api.yaml", "worker.yaml"]
    for _, pod, container in seen:
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        safe = container["securityContext"]
        assert safe["readOnlyRootFilesystem"] and not safe["allowPrivilegeEscalation"]
        assert container["resources"]["limits"]["memory"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_an_api_without_its_database_is_taken_out_and_not_restarted():
    """A new one would not start before the database is back, and wait ever longer."""
    (api,) = (container for name, _, container in containers() if name == "api.yaml")
    assert api["readinessProbe"]["httpGet"]["path"] == "/health"
    assert api["livenessProbe"]["httpGet"]["path"] == "/"
    settings = ServiceSettings(token="0123456789abcdef", database="postgresql://127.0.0.1:1/none")
    database = Database(settings.database.get_secret_value())
    queue = open_queue(settings, database)
    service = Service(settings, database, queue, Jobs(settings, database, queue))
    with serving(service) as url:
        with pytest.raises(HTTPError, match="503"):
            urlopen(f"{url}/health")
        assert urlopen(f"{url}/").status == 200
    database.close()


def test_a_service_of_this_name_changes_no_setting():
    """Kubernetes would set QUPATH_BRIDGE_PORT in each pod for a service called qupath-bridge."""
    assert "port" in ServiceSettings.model_fields
    assert all(pod["enableServiceLinks"] is False for _, pod, _ in containers())


def test_images_and_the_job_of_a_version_are_of_this_version():
    """A job cannot be changed, so a new version needs a new name."""
    text = (KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["images"][0]["newTag"] == __version__
    (job,) = (each for _, each in documents() if each["kind"] == "Job")
    assert job["metadata"]["name"] == f"migrate-{__version__.replace('.', '-')}"


def test_no_secret_is_in_a_file():
    for path in (ROOT / "compose.yaml", *KUBERNETES.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?i)(token|password|secret_access_key): *[A-Za-z0-9]{8,}", text), (
            path
        )
        assert "kind: Secret\n" not in text


def test_the_dockerfile_is_as_a_linter_wants_it():
    """hadolint looks at the commands of its shells, too."""
    place = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if place is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [place, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
